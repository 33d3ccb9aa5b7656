"""The folder of a training run: config.json, checkpoints/, TensorBoard events and model.weights.h5."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import glob
import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf import weights
from deeplab_tf.config import SECTIONS, Config
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.errors import UserError
from deeplab_tf.networks import trained_config
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.runtime import files

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.weights.h5"
BEST_WEIGHTS_FILE = "best.weights.h5"
LOCK_FILE = ".lock"


@contextlib.contextmanager
def locked(workdir: str) -> Iterator[None]:
    """Makes a workdir and keeps other trainings out of it; the lock goes with the process, however that ends.

    Args:
        workdir: the folder.

    Raises:
        UserError: another process trains there, or the folder cannot be written.
    """
    made = not os.path.isdir(workdir)
    files.make_folder(workdir, "--workdir")
    path = os.path.join(workdir, LOCK_FILE)
    descriptor = _open_locked(path, workdir)
    try:
        with contextlib.suppress(OSError):  # of use to readers only, and the disk may be full
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.remove(path)  # while it is locked still, see _open_locked
        os.close(descriptor)
        if made:
            with contextlib.suppress(OSError):  # there is something in it
                os.rmdir(workdir)


def _open_locked(path: str, workdir: str) -> int:
    """Opens the lock file of a workdir, locks it and returns its descriptor.

    Raises:
        UserError: another process trains there, or the folder cannot be written.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(f"cannot write to the folder --workdir={workdir}: {error.strerror}.") from error
        try:
            cannot_lock = files.lock(descriptor)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise UserError(f"{holder} is training in {workdir}; wait for it, or name another --workdir.") from None
        if cannot_lock:
            print(
                f"{workdir} cannot be locked ({cannot_lock.strerror}): see to it that only one training writes there."
            )
        # The process before may have removed the file between these two lines: then another process locks a new one.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)


def has_checkpoints(workdir: str) -> bool:
    """Says whether a training has begun in a workdir."""
    return bool(glob.glob(os.path.join(glob.escape(workdir), "checkpoints", "step-*")))


def check_workdir(workdir: str, config: Config, run: dict[str, Any]) -> None:
    """Checks that what was trained in a workdir belongs to this experiment, and names changed settings.

    A workdir in which nothing was trained yet may become any experiment's.

    Args:
        workdir: the folder.
        config: of this run.
        run: see `write_config`.

    Raises:
        UserError: it holds another experiment, network or data set.
    """
    trained = has_checkpoints(workdir) or os.path.exists(os.path.join(workdir, WEIGHTS_FILE))
    if not trained or not os.path.exists(os.path.join(workdir, CONFIG_FILE)):
        return
    before = read_config(workdir)
    if before.experiment != config.experiment:
        raise UserError(
            f"{workdir} holds the experiment {before.experiment}, not {config.experiment}; name another --workdir."
        )
    changed = {
        section: _differences(
            dataclasses.asdict(getattr(before, section)), dataclasses.asdict(getattr(config, section))
        )
        for section in (*SECTIONS, "dataset")
    }
    changed["run"] = _differences(read_run(workdir), {key: run[key] for key in ("data_dir", "split") if key in run})
    for section, fatal in (("model", None), ("dataset", ("class_names", "ignore_label"))):
        refused = [text for name, text in changed[section].items() if fatal is None or name in fatal]
        if refused:
            raise UserError(
                f"{workdir} was trained with another {section} ({', '.join(refused)}); name another --workdir."
            )
    for section, changes in changed.items():
        if changes:
            print(f"{workdir} is continued with changed settings in {section}: {', '.join(changes.values())}.")


def write_config(workdir: str, config: Config, run: dict[str, Any]) -> None:
    """Writes config.json: the settings, and all that is needed to repeat this run.

    Args:
        workdir: the folder.
        config: of this run.
        run: what else is worth writing down: data, split, init, devices, the step at which this process begins.

    Raises:
        UserError: not writable.
    """
    path = os.path.join(workdir, CONFIG_FILE)
    environment = {
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git_revision": _git_revision(),
        "host": socket.gethostname(),
        "versions": {
            "python": sys.version.split()[0],
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }
    files.write_json(path, {**config.to_json(), "run": {**run, **environment}, "earlier_runs": _earlier_runs(path)})


def read_config(workdir: str) -> Config:
    """Reads a workdir's configuration.

    Raises:
        UserError: no workdir, or a config.json that cannot be read.
    """
    path = os.path.join(workdir, CONFIG_FILE)
    try:
        return Config.from_json(files.read_json(path))
    except FileNotFoundError:
        raise UserError(f"{workdir} is not a workdir of train.py: it has no {CONFIG_FILE}.") from None
    except NotADirectoryError:
        hint = ""
        if workdir.lower().endswith(weights.SUFFIXES):
            hint = f" It is a weights file: give it as --weights={workdir}, with --experiment and --dataset."
        raise UserError(f"{workdir}: expected a workdir of train.py, which is a folder, got a file.{hint}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}. It was written by another version, or is damaged.") from error


def write_crf(workdir: str, crf: CrfParams) -> None:
    """Replaces the CRF's constants in config.json, for eval.py, predict.py and export.py.

    Raises:
        UserError: no workdir, one in which a training goes on, or one that cannot be written.
    """
    read_config(workdir)  # complains where there is none
    path = os.path.join(workdir, CONFIG_FILE)
    with locked(workdir):
        content = files.read_json(path)
        files.write_json(path, {**content, "crf": dataclasses.asdict(crf)})


def read_run(workdir: str) -> dict[str, Any]:
    """Reads what config.json says about the process that wrote it; {} where it says nothing."""
    try:
        return dict(files.read_json(os.path.join(workdir, CONFIG_FILE))["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def first_run(workdir: str) -> dict[str, Any]:
    """Reads what config.json says about the process that began the training; {} where it says nothing."""
    path = os.path.join(workdir, CONFIG_FILE)
    return next(iter(_earlier_runs(path)), {})


def save_weights(model: keras.Model, workdir: str, name: str = WEIGHTS_FILE) -> str:
    """Writes a weights file into a workdir and returns its path.

    Raises:
        UserError: the disk refuses, or has no space.
    """
    path = os.path.join(workdir, name)
    # Looked at first: HDF5 says more than one line on a full disk.
    files.require_space(path, sum(math.prod(variable.shape) * 4 for variable in model.variables) + 1_000_000)
    files.write_atomically(path, model.save_weights)
    return path


def load(
    workdir: str, config: Config | None = None, best: bool = False, precision: str | None = None
) -> tuple[DeepLab, Config]:
    """Loads what train.py left.

    Args:
        workdir: its --workdir, after the training has ended.
        config: the workdir's configuration, changed; read from there by default. The data set has to be known. A
            finer output stride takes the rates with it.
        best: the weights of the best validation instead of the last; also before the training has ended.
        precision: float32, bfloat16 or float16, what the network computes in; None for what it was trained in.

    Returns:
        The model with the trained weights, and its configuration (`config.dataset` names the classes).

    Raises:
        UserError: no such workdir, a training that has not ended, or settings that do not go with its weights.
    """
    trained = read_config(workdir)
    config = config or trained
    model_config = trained_config.settle(trained.model, config.model, workdir)
    config = dataclasses.replace(config, model=model_config)
    path = os.path.join(workdir, BEST_WEIGHTS_FILE if best else WEIGHTS_FILE)
    if best and not os.path.isfile(path):
        raise UserError(f"{workdir} has no {BEST_WEIGHTS_FILE}: train.py writes it with --eval_split=NAME.")
    if not os.path.isfile(path):
        raise UserError(
            f"{workdir} has no {WEIGHTS_FILE}: the training has not ended. The same train.py command resumes it."
        )
    if config.dataset is None:
        raise UserError(f"{workdir}/{CONFIG_FILE} names no data set; it was not written by train.py.")

    def fill(model: DeepLab) -> None:
        report = weights.load_weights(model, path)
        if report.missing or report.skipped:
            raise UserError(f"{path} does not belong to this network: {report}")

    classes, precision = config.info.num_classes, precision or config.train.precision
    return trained_config.build_trained(trained.model, config.model, classes, precision, fill), config


def _earlier_runs(path: str) -> list[dict[str, Any]]:
    """What config.json says about the processes before this one, oldest first."""
    try:
        content = files.read_json(path)
        return [*content.get("earlier_runs", []), content["run"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    """Says of each entry that has another value what it was and is."""
    return {
        name: f"{name} was {before[name]}, is {value}"
        for name, value in after.items()
        if name in before and before[name] != value
    }


def _git_revision() -> str | None:
    """The checkout's commit, marked where files differ from it; None without git, or outside a checkout."""
    folder, name = os.path.split(os.path.abspath(__file__))

    def git(*arguments: str) -> str:
        command = ["git", "-C", folder, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # Installed in an environment inside another project's checkout, that project's commit says nothing.
        git("ls-files", "--error-unmatch", name)
        return git("describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.SubprocessError):
        return None
