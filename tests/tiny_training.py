"""A whole training of the tiny network, as a process: what train.py does, in seconds.

    python -m tests.tiny_training WORKDIR [key=value ...]

Everything is real but the network, which is `tests.tiny`'s, and the data, which are random images whose classes can be
seen. Keys are fields of TrainConfig, other fields as section.field, and `strategy`, `pause` (seconds before each step),
`scales`, `cpus` (logical devices), `hidden` (units), `validate` (images) and `dry_run`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab_tf import config as configs
from deeplab_tf.config import Config
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.experiments import experiment_config
from deeplab_tf.training import dry_run
from deeplab_tf.training import loop as training
from deeplab_tf.training import step as train_step
from deeplab_tf.training.validation import ValidationSplit
from tests.tiny import tiny_network

INFO = DatasetInfo("tiny", ("dark", "middle", "bright"), pascal_palette(3))
SETTINGS = {"crop_size": 33, "batch_size": 4, "iter_size": 2, "iterations": 20, "deterministic": "true"}


def configure(**settings: Any) -> Config:
    """Returns a configuration whose network `use_tiny_network` replaces."""
    return configs.override(
        dataclasses.replace(experiment_config("resnet101_aspp"), dataset=INFO),
        [
            f"{key if '.' in key else f'train.{key}'}={value}"
            for key, value in {**SETTINGS, "optimizer.base_lr": 0.01, **settings}.items()
        ],
    )


def use_tiny_network(scales: tuple[float, ...] = (1.0,), hidden_units: int = 4) -> Callable[..., Any]:
    """Returns what stands for `training.build_network`."""
    return lambda *_: tiny_network(scales=scales, hidden_units=hidden_units)


def example(number: tf.Tensor) -> dict[str, tf.Tensor]:
    """The example with this number in the training: the same whoever reads it."""
    seed = tf.stack([tf.cast(number, tf.int32), 7])
    labels = tf.random.stateless_uniform([4, 4], seed, 0, 3, tf.int32)
    labels = tf.repeat(tf.repeat(labels, 9, axis=0), 9, axis=1)[:33, :33]
    noise = tf.random.stateless_normal([33, 33, 3], seed, stddev=20)
    image = tf.clip_by_value(100 * tf.cast(labels, tf.float32)[..., tf.newaxis] + noise, 0, 255)
    ignored = tf.random.stateless_uniform([33, 33], seed) < 0.1
    return {"image": image, "labels": tf.where(ignored, 255, labels), "seeds": seed}


def batches_of(config: Config) -> Callable[..., tf.data.Dataset]:
    """Returns the batches of a training, as `datasets.pipeline.train_batches` deals them out."""
    batch_size, iter_size = config.train.batch_size, config.train.iter_size
    signature = {"image": tf.float32, "labels": tf.int32, "seeds": tf.int32}

    def make_batches(
        start_step: int, pipeline_index: int, num_pipelines: int, replicas: int, mean_rgb: tuple[float, ...]
    ) -> tf.data.Dataset:
        rows = batch_size // (num_pipelines * replicas)

        def element(number: tf.Tensor) -> dict[str, tf.Tensor]:
            step, replica = number // replicas, number % replicas
            first = (pipeline_index * replicas + replica) * rows
            micro = (step * iter_size + tf.range(iter_size, dtype=tf.int64)) * batch_size
            numbers = micro + (first + tf.range(rows, dtype=tf.int64))[:, tf.newaxis]  # [rows, iter_size]
            examples = tf.map_fn(example, tf.reshape(numbers, [-1]), fn_output_signature=signature)
            return {name: tf.reshape(x, (rows, iter_size, *x.shape[1:])) for name, x in examples.items()}

        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return tf.data.Dataset.counter(start_step * replicas).map(element).with_options(options)

    return make_batches


def validation_split(count: int) -> ValidationSplit:
    """Returns a split of `count` images."""

    def examples() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for number in range(count):
            one = example(tf.constant(10**6 + number))
            yield str(number), one["image"].numpy().astype(np.uint8), one["labels"].numpy()

    return ValidationSplit("val", count, examples)


def main(arguments: list[str]) -> None:
    """Trains."""
    workdir, *rest = arguments
    options = dict(argument.split("=", 1) for argument in rest)
    cpus, pause = int(options.pop("cpus", 1)), float(options.pop("pause", 0))
    strategy, rehearse = options.pop("strategy", "one_device"), options.pop("dry_run", "")
    scales = tuple(map(float, options.pop("scales", "1").split(",")))
    hidden, validate = int(options.pop("hidden", 4)), int(options.pop("validate", 0))
    if cpus > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * cpus)

    def build_slow_step(*arguments: Any) -> Any:
        step, names = train_step.build_train_step(*arguments)

        def slow(batch: Any) -> Any:
            time.sleep(pause)
            return step(batch)

        return slow, names

    training.build_network = use_tiny_network(scales, hidden)
    training.build_train_step = build_slow_step
    config = configure(**options)
    how = {"init": "none", "strategy_name": strategy}
    how |= {"validation_split": validation_split(validate) if validate else None}
    (dry_run.rehearse if rehearse else training.train)(config, workdir, batches_of(config), **how)


if __name__ == "__main__":
    from deeplab_tf.runtime.command_line import run

    run(main, takes_arguments=True)
