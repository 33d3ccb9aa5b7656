"""A whole training of the tiny network, as a process: what train.py does, in seconds.

    python -m tests.tiny_training WORKDIR [key=value ...]

Everything is real but the network, which is `tests.tiny`'s, and the data, which are random images whose classes can be
seen. Keys are fields of TrainConfig, and `strategy`, `pause` (seconds before each step), `scales`, `cpus` (logical
devices), `hidden` (units) and `validate` (images).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any


def main(arguments: list[str]) -> None:
    """Trains."""
    workdir, *rest = arguments
    options = dict(argument.split("=", 1) for argument in rest)

    import numpy as np
    import tensorflow as tf

    if "cpus" in options:
        cpu = tf.config.list_physical_devices("CPU")[0]
        devices = [tf.config.LogicalDeviceConfiguration()] * int(options.pop("cpus"))
        tf.config.set_logical_device_configuration(cpu, devices)

    from deeplab_tf import config as configs
    from deeplab_tf import training
    from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
    from deeplab_tf.train_step import build_train_step
    from deeplab_tf.validation import ValidationSplit
    from tests.tiny import tiny_network

    pause = float(options.pop("pause", 0))
    strategy = options.pop("strategy", "one_device")
    scales = tuple(map(float, options.pop("scales", "1").split(",")))
    validate = int(options.pop("validate", 0))
    hidden = int(options.pop("hidden", 4))
    experiment = configs.experiment_config("resnet101_aspp")
    defaults = {"crop_size": 33, "batch_size": 4, "iter_size": 2, "iterations": 20, "deterministic": "true"}
    config = configs.override(experiment, [f"train.{key}={value}" for key, value in {**defaults, **options}.items()])
    config = configs.override(config, ["optimizer.base_lr=0.01"])
    info = DatasetInfo("tiny", ("dark", "middle", "bright"), pascal_palette(3))
    config = configs.dataclasses.replace(config, dataset=info)
    settings = config.train

    def example(number: tf.Tensor) -> dict[str, tf.Tensor]:
        """The example with this number in the training: the same whoever reads it."""
        seed = tf.stack([tf.cast(number, tf.int32), 7])
        labels = tf.random.stateless_uniform([4, 4], seed, 0, 3, tf.int32)
        labels = tf.repeat(tf.repeat(labels, 9, axis=0), 9, axis=1)[:33, :33]
        noise = tf.random.stateless_normal([33, 33, 3], seed, stddev=20)
        image = tf.clip_by_value(100 * tf.cast(labels, tf.float32)[..., tf.newaxis] + noise, 0, 255)
        ignored = tf.random.stateless_uniform([33, 33], seed) < 0.1
        return {"image": image, "labels": tf.where(ignored, 255, labels), "seeds": seed}

    def make_batches(
        start_step: int, pipeline_index: int, num_pipelines: int, replicas: int, mean_rgb: tuple[float, ...]
    ) -> tf.data.Dataset:
        rows = settings.batch_size // (num_pipelines * replicas)

        signature = {"image": tf.float32, "labels": tf.int32, "seeds": tf.int32}

        def element(number: tf.Tensor) -> dict[str, tf.Tensor]:
            step, replica = number // replicas, number % replicas
            first = (pipeline_index * replicas + replica) * rows
            micro = (step * settings.iter_size + tf.range(settings.iter_size, dtype=tf.int64)) * settings.batch_size
            numbers = micro + (first + tf.range(rows, dtype=tf.int64))[:, tf.newaxis]  # [rows, iter_size]
            examples = tf.map_fn(example, tf.reshape(numbers, [-1]), fn_output_signature=signature)
            return {name: tf.reshape(x, (rows, settings.iter_size, *x.shape[1:])) for name, x in examples.items()}

        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return tf.data.Dataset.counter(start_step * replicas).map(element).with_options(options)

    def build_slow_step(*arguments: Any) -> Any:
        step, names = build_train_step(*arguments)

        def slow(batch: Any) -> Any:
            time.sleep(pause)
            return step(batch)

        return slow, names

    def validation_examples() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for number in range(validate):
            one = example(tf.constant(10**6 + number))
            yield str(number), one["image"].numpy().astype(np.uint8), one["labels"].numpy()

    split = None
    if validate:
        split = ValidationSplit("val", validate, validation_examples)
    if pause:
        training.build_train_step = build_slow_step
    training.build_network = lambda *_: tiny_network(scales=scales, hidden_units=hidden)
    training.train(config, workdir, make_batches, init="none", strategy_name=strategy, validation_split=split)


if __name__ == "__main__":
    from deeplab_tf.command_line import run

    run(main, takes_arguments=True)
