"""A rehearsal of a training: one batch through everything, and what the whole of it would take."""

from __future__ import annotations

import datetime
import functools
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from deeplab_tf import workdir as workdirs
from deeplab_tf.config import Config
from deeplab_tf.errors import UserError
from deeplab_tf.runtime import devices, memory, tf_config
from deeplab_tf.runtime.devices import MakeBatches
from deeplab_tf.training import defaults, trained_images
from deeplab_tf.training import summary as training_report
from deeplab_tf.training.checkpoints import Checkpoints
from deeplab_tf.training.loop import build, initialise
from deeplab_tf.training.out_of_memory import remedies
from deeplab_tf.training.step import build_train_step
from deeplab_tf.training.trained_images import TrainingData
from deeplab_tf.training.validation import Validation, ValidationSplit


def rehearse(
    config: Config,
    workdir: str,
    make_batches: MakeBatches,
    *,
    init: str,
    strategy_name: str = "auto",
    validation_split: ValidationSplit | None = None,
    data: TrainingData | None = None,
    other_data: bool = False,
) -> None:
    """Does everything that `training.train` with these arguments would do, once, and prints what the whole would take.

    Writes to a temporary folder beside `workdir`, which is removed; `workdir` itself is neither made nor touched.

    Raises:
        UserError: as `training.train`.
    """
    # Before there is a strategy, which would wait for the other processes.
    cluster = tf_config.read_cluster() if strategy_name in ("auto", "multi_worker") else None
    if cluster and cluster.num_processes > 1:
        raise UserError(
            f"--dry_run rehearses one process, and TF_CONFIG lists {cluster.num_processes}: unset TF_CONFIG for it."
        )
    strategy = devices.build_strategy(strategy_name)
    workdirs.check_workdir(workdir, config, {})
    if data and not other_data and workdirs.has_checkpoints(workdir):
        trained_images.refuse_other_data(workdir, data)
    parent = _existing_parent(workdir)
    if not os.access(parent, os.W_OK):
        raise UserError(f"cannot make the folder --workdir={workdir}: {parent} cannot be written.")
    remedy = functools.partial(remedies, config, strategy.num_replicas_in_sync, rehearsal=True)
    with memory.explaining_exhaustion("the rehearsal", remedy):
        _rehearse(config, workdir, make_batches, init, strategy, validation_split, parent)


def _rehearse(
    config: Config,
    workdir: str,
    make_batches: MakeBatches,
    init: str,
    strategy: tf.distribute.Strategy,
    validation_split: ValidationSplit | None,
    parent: str,
) -> None:
    """Rehearses in a temporary folder in `parent`."""
    config = defaults.with_intervals(config)
    model, optimizer = build(config, strategy)
    print(training_report.summary(config, model, strategy, workdir), flush=True)
    initialise(model, init, config, make_batches)
    settings = config.train
    with tempfile.TemporaryDirectory(prefix=".dry_run.", dir=parent) as folder:
        batches = devices.distribute(make_batches, strategy, settings.batch_size, 0, model.mean_rgb)
        step, _ = build_train_step(
            model, optimizer, strategy, config.info.ignore_label, settings.class_weights, settings.xla
        )
        first_seconds, _ = _timed(lambda: step(next(batches)).numpy())
        times: list[float] = []
        while not times or (len(times) < 5 and sum(times) < 10):
            seconds, terms = _timed(lambda: step(next(batches)).numpy())
            times.append(seconds)
        step_seconds = min(times)
        training_report.training_picture(model, next(batches), config.info)
        checkpoints = Checkpoints(folder, model, optimizer, keep=1)
        save_seconds, _ = _timed(lambda: checkpoints.save(2))
        checkpoint_bytes = _folder_bytes(folder)
        weights_bytes = os.path.getsize(workdirs.save_weights(model, folder))
        validation_seconds, validations = 0.0, 0
        if validation_split:
            one = ValidationSplit(validation_split.name, 2, lambda: _take(validation_split.examples(), 2))
            Validation(folder, one, config.info, config.inference).run(model, 1)  # prepares
            seconds, _ = _timed(lambda: Validation(folder, one, config.info, config.inference).run(model, 2))
            validation_seconds = seconds / 2 * validation_split.count
            validations = -(-settings.iterations // settings.eval_every)
    saves = -(-settings.iterations // settings.save_every)
    total = first_seconds + settings.iterations * step_seconds + saves * save_seconds + validations * validation_seconds
    disk = (settings.keep_checkpoints + 1) * checkpoint_bytes + (2 if validation_split else 1) * weights_bytes
    free = shutil.disk_usage(parent).free
    rows = {
        "an update": f"{step_seconds:.2f} s, {settings.batch_size * settings.iter_size / step_seconds:.2f} images/s "
        f"(the first, with its preparation, {first_seconds:.1f} s)",
        "loss": f"{float(terms.sum()):.4f} after {len(times)} updates",
        "memory": _memory(strategy),
        "checkpoint": f"{checkpoint_bytes / 1e6:.0f} MB in {save_seconds:.1f} s, {saves} times",
    }
    if validation_split:
        rows["validation"] = (
            f"{_duration(validation_seconds)} for {validation_split.count} images of {validation_split.name}, "
            f"{validations} times"
        )
    rows["disk"] = f"{disk / 1e9:.2f} GB, of {free / 1e9:.2f} GB free"
    rows["total"] = f"{_duration(total)} for {settings.iterations} updates"
    print("a dry run, which leaves nothing behind:")
    print("\n".join(f"{name:>11}  {text}" for name, text in rows.items()))
    if disk > free:
        raise UserError(
            f"{workdir} needs {disk / 1e9:.2f} GB, {free / 1e9:.2f} GB are free. Make space, or keep fewer checkpoints "
            "with --set=train.keep_checkpoints=1."
        )


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.monotonic()
    result = work()
    return time.monotonic() - begin, result


def _take(examples: Any, count: int) -> Iterator[Any]:
    for _, example in zip(range(count), examples, strict=False):
        yield example


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))


def _existing_parent(path: str) -> str:
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _folder_bytes(folder: str) -> int:
    return sum(os.path.getsize(os.path.join(root, name)) for root, _, names in os.walk(folder) for name in names)


def _memory(strategy: tf.distribute.Strategy) -> str:
    """The peak so far: of the process, and of each GPU."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = [f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.2f} GB of RAM"]
    for device in strategy.extended.worker_devices:
        if "GPU" in device:
            name = "GPU:" + device.rsplit(":", 1)[-1]
            peak.append(f"{tf.config.experimental.get_memory_info(name)['peak'] / 1e9:.2f} GB of {name}")
    return "at most " + ", ".join(peak)
