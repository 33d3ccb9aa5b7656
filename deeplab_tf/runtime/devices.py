"""Devices and processes: everything that is special to tf.distribute, in one place.

A training is one process, or several that TF_CONFIG names (`tf_config`). One of them is the chief: it alone reads and
writes the workdir, and sends the others what it read.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import files, tf_config

EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h
_TENSOR_CORES_FOR_FLOAT32 = (8, 0)  # compute capability; by TF32

_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)

MakeBatches = Callable[..., tf.data.Dataset]
"""(start_step, pipeline_index, num_pipelines, replicas, mean_rgb) -> batches, see datasets.pipeline.train_batches."""


def build_strategy(name: str) -> tf.distribute.Strategy:
    """Builds a distribution strategy; to be called before anything else touches a device.

    With several processes it returns when all of them have started.

    Args:
        name: "one_device", the first GPU or the CPU; "mirrored", all GPUs of this machine (or all logical
            CPUs); "multi_worker", what TF_CONFIG describes; "auto", multi_worker where TF_CONFIG is set,
            mirrored with several GPUs, else one_device. "one_device" and "mirrored" leave TF_CONFIG unread.

    Raises:
        UserError: multi_worker without TF_CONFIG, or a TF_CONFIG that cannot be used.
    """
    cluster = tf_config.read_cluster() if name in ("auto", "multi_worker") else None
    if name == "multi_worker" and cluster is None:
        raise UserError(
            "--strategy=multi_worker trains with the processes that the environment variable TF_CONFIG lists, and it "
            f"lists none. Set it in each process, such as TF_CONFIG='{tf_config.EXAMPLE}' (docs/distributed.md), or "
            "leave --strategy out to train alone."
        )
    if name == "auto":
        if cluster:
            name = "multi_worker"
        else:
            name = "mirrored" if len(tf.config.list_logical_devices("GPU")) > 1 else "one_device"
    strategy = _strategy(name)
    _keep_channels_last()
    return strategy


def _strategy(name: str) -> tf.distribute.Strategy:
    if name == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    return (
        tf.distribute.MirroredStrategy(devices) if name == "mirrored" else tf.distribute.OneDeviceStrategy(devices[0])
    )


def _keep_channels_last() -> None:
    """Keeps TensorFlow from moving float32 graphs to channels first where tensor cores would have to move them back.

    That made a training step of ResNet-101 1.27 times as long, on an H200 (docs/performance.md). GPUs before compute
    capability 8.0 compute float32 outside of their tensor cores; nothing is changed there.
    """
    gpus = _gpu_details()
    if gpus and all(gpu.get("compute_capability", (0, 0)) >= _TENSOR_CORES_FOR_FLOAT32 for gpu in gpus):
        tf.config.optimizer.set_experimental_options({"layout_optimizer": False})


def gpu_names() -> list[str]:
    """Returns the names of this machine's GPUs, such as "NVIDIA H200"."""
    return [gpu.get("device_name", "GPU") for gpu in _gpu_details()]


def _gpu_details() -> list[dict[str, Any]]:
    return [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]


@contextlib.contextmanager
def ending_with_the_others(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Ends this process with one line, and status 75 (try again), when another process of the training is lost.

    TensorFlow notices within about a minute, and then fails whatever was to be exchanged next.
    """
    try:
        yield
    except UserError:  # a cause that is known, here
        raise
    except Exception as error:
        lost = _loss_behind(error)
        if lost is None or num_workers(strategy) == 1:
            raise
        print(
            "error: another process of this training has ended or cannot be reached "
            f"({type(lost).__name__}: {files.reason(lost)}). Start all of them again by the same commands: they go on "
            "from the last checkpoint.",
            file=sys.stderr,
            flush=True,
        )
        sys.stdout.flush()
        # Not sys.exit: an orderly end would wait for the one that is lost.
        os._exit(EXIT_TRY_AGAIN)


def _loss_behind(error: BaseException | None) -> BaseException | None:
    """The TensorFlow error that led to another error; Keras replaces some of them by its own."""
    while error is not None and not isinstance(error, _LOST):
        error = error.__cause__ or error.__context__
    return error


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Returns how many processes train together: the chief, if there is a job of that name, and the workers."""
    resolver = strategy.cluster_resolver
    return sum(len(job.tasks) for job in resolver.cluster_spec().as_cluster_def().job) if resolver else 1


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Says whether this is the process that reads and writes the workdir: the chief, or without that job worker 0."""
    resolver = strategy.cluster_resolver
    if not resolver or resolver.task_type in ("chief", None):
        return True
    return "chief" not in resolver.cluster_spec().jobs and resolver.task_id == 0


def describe(strategy: tf.distribute.Strategy) -> str:
    """Returns such as "2 x GPU in each of 4 processes (MultiWorkerMirroredStrategy)"."""
    workers = num_workers(strategy)
    kind = strategy.extended.worker_devices[0].split("device:")[-1].split(":")[0]
    each = f" in each of {workers} processes" if workers > 1 else ""
    return f"{strategy.num_replicas_in_sync // workers} x {kind}{each} ({type(strategy).__name__})"


def distribute(
    make_batches: MakeBatches,
    strategy: tf.distribute.Strategy,
    batch_size: int,
    start: int,
    mean_rgb: tuple[float, float, float],
) -> Iterator[dict[str, Any]]:
    """Gives every replica its rows of each micro-batch. Each process makes its own, so nothing is sharded twice.

    Args:
        make_batches: of the training split.
        strategy: the model's.
        batch_size: rows of a micro-batch on all replicas.
        start: the first step to give.
        mean_rgb: what the model wants images padded with.

    Raises:
        UserError: the rows do not divide by the replicas.
    """

    def worker_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return make_batches(
            start_step=start,
            pipeline_index=context.input_pipeline_id,
            num_pipelines=context.num_input_pipelines,
            replicas=context.num_replicas_in_sync // context.num_input_pipelines,
            mean_rgb=mean_rgb,
        )

    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise UserError(
            f"train.batch_size={batch_size} cannot be divided evenly among {replicas} replicas; "
            f"try {replicas * math.ceil(batch_size / replicas)}."
        )
    return iter(strategy.distribute_datasets_from_function(worker_batches))


def copy_from_chief(strategy: tf.distribute.Strategy, variables: Sequence[tf.Variable]) -> None:
    """Gives every process the values that the chief's variables have; one process alone has nothing to do."""
    if num_workers(strategy) == 1:
        return

    @tf.function
    def chiefs(values: list[tf.Tensor]) -> list[tf.Tensor]:
        def send(values: list[tf.Tensor]) -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            mine = tf.equal(context.replica_id_in_sync_group, 0)
            # One by one: packed together, integers and floats do not go.
            return [context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(mine, x, tf.zeros_like(x))) for x in values]

        sent = strategy.run(send, args=(values,))
        return [strategy.experimental_local_results(x)[0] for x in sent]

    for variable, value in zip(variables, chiefs([tf.convert_to_tensor(v) for v in variables]), strict=True):
        variable.assign(value)


def any_process(strategy: tf.distribute.Strategy) -> Callable[[bool], bool]:
    """Builds a function that says whether its argument is true in any process; all have to call it at once."""
    if num_workers(strategy) == 1:
        return bool

    @tf.function
    def total(value: tf.Tensor) -> tf.Tensor:
        def add(value: tf.Tensor) -> tf.Tensor:
            # An op of its own, on the replica's device.
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))

        return strategy.experimental_local_results(strategy.run(add, args=(value,)))[0]

    return lambda value: bool(total(tf.constant(float(value))) > 0)
