"""The folder of a training run: config.json, checkpoints/, TensorBoard events and model.weights.h5."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf import files, weights
from deeplab_tf.config import SECTIONS, Config
from deeplab_tf.errors import UserError
from deeplab_tf.model import DeepLab, build_network

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.weights.h5"


def open_workdir(workdir: str, config: Config, run: dict[str, Any]) -> None:
    """Makes a workdir, or checks that an existing one belongs to the same experiment, and writes config.json.

    Args:
        workdir: the folder.
        config: of this run.
        run: what else is worth writing down: data, split, init, strategy.

    Raises:
        UserError: not writable, or a workdir of another experiment, network or data set.
    """
    files.make_folder(workdir, "--workdir")
    path = os.path.join(workdir, CONFIG_FILE)
    if os.path.exists(path):
        before = read_config(workdir)
        if before.experiment != config.experiment:
            raise UserError(
                f"{workdir} holds the experiment {before.experiment}, not {config.experiment}; name another --workdir."
            )
        for section in ("model", "dataset"):
            if getattr(before, section) != getattr(config, section):
                changes = _differences(getattr(before, section), getattr(config, section))
                raise UserError(f"{workdir} was trained with another {section} ({changes}); name another --workdir.")
        for section in SECTIONS:
            if getattr(before, section) != getattr(config, section):
                changes = _differences(getattr(before, section), getattr(config, section))
                print(f"{workdir} is continued with changed settings in {section}: {changes}.")
    environment = {
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git_revision": _git_revision(),
        "versions": {
            "python": sys.version.split()[0],
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }
    files.write_json(path, {**config.to_json(), "run": {**run, **environment}})


def read_config(workdir: str) -> Config:
    """Reads a workdir's configuration.

    Raises:
        UserError: no workdir, or a config.json that cannot be read.
    """
    path = os.path.join(workdir, CONFIG_FILE)
    try:
        with open(path, encoding="utf-8") as file:
            return Config.from_json(json.load(file))
    except FileNotFoundError:
        raise UserError(f"{workdir} is no workdir of train.py: it has no {CONFIG_FILE}.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {path}: {error}. It was written by another version, or is damaged.") from error


def save_weights(model: keras.Model, workdir: str) -> str:
    """Writes model.weights.h5 and returns its path."""
    path = os.path.join(workdir, WEIGHTS_FILE)
    files.write_atomically(path, model.save_weights)
    return path


def load(workdir: str, config: Config | None = None) -> tuple[DeepLab, Config]:
    """Loads what train.py left.

    Args:
        workdir: its --workdir, after the training has ended.
        config: the workdir's configuration, changed; read from there by default. The data set has to be known.

    Returns:
        The model with the trained weights, and the configuration it was trained with (`config.dataset` names
        the classes).

    Raises:
        UserError: no such workdir, or a training that has not ended.
    """
    config = config or read_config(workdir)
    path = os.path.join(workdir, WEIGHTS_FILE)
    if not os.path.isfile(path):
        raise UserError(
            f"{workdir} has no {WEIGHTS_FILE}: the training has not ended. The same train.py command resumes it."
        )
    if config.dataset is None:
        raise UserError(f"{workdir}/{CONFIG_FILE} names no data set; it was not written by train.py.")
    model = build_network(config.model, config.info.num_classes, config.train.precision)
    report = weights.load_weights(model, path)
    if report.missing or report.skipped:
        raise UserError(f"{path} does not belong to this network: {report}")
    return model, config


def _differences(before: Any, after: Any) -> str:
    old, new = dataclasses.asdict(before), dataclasses.asdict(after)
    return ", ".join(f"{name} was {old[name]}, is {new[name]}" for name in old if old[name] != new[name])


def _git_revision() -> str | None:
    """The checkout's commit, marked where files differ from it; None without git."""
    folder = os.path.dirname(os.path.abspath(__file__))
    try:
        answer = subprocess.run(
            ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
