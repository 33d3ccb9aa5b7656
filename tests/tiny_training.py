"""A whole training of the tiny network, as a process: what train.py does, in seconds.

    python -m tests.tiny_training WORKDIR [key=value ...]

Everything is real but the network, which is `tests.tiny`'s, and the data, which are random images whose classes can be
seen. Keys are fields of TrainConfig, and `strategy`, `pause` (seconds before every step), `scales`, `cpus` (logical
devices) and `validate`.
"""

from __future__ import annotations

import time


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
    from deeplab_tf.validation import ValidationSplit
    from tests.tiny import tiny_network

    pause = float(options.pop("pause", 0))
    strategy = options.pop("strategy", "one_device")
    scales = tuple(map(float, options.pop("scales", "1").split(",")))
    validate = int(options.pop("validate", 0))
    experiment = configs.experiment_config("resnet101_aspp")
    defaults = {"crop_size": 33, "batch_size": 4, "iter_size": 2, "iterations": 20, "deterministic": "true"}
    config = configs.override(experiment, [f"train.{key}={value}" for key, value in {**defaults, **options}.items()])
    config = configs.override(config, ["optimizer.base_lr=0.01"])
    info = DatasetInfo("tiny", ("dark", "middle", "bright"), pascal_palette(3))
    config = configs.dataclasses.replace(config, dataset=info)
    settings = config.train

    def example(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        labels = np.kron(rng.integers(0, 3, (4, 4)), np.ones((9, 9)))[:33, :33].astype(np.int32)
        labels[rng.random(labels.shape) < 0.1] = 255
        image = np.clip(labels, 0, 2)[..., np.newaxis] * 100 + rng.normal(0, 20, (33, 33, 3))
        return np.clip(image, 0, 255).astype(np.uint8), labels

    def make_batches(
        start_step: int, pipeline_index: int, num_pipelines: int, replicas: int, mean_rgb: tuple[float, ...]
    ) -> tf.data.Dataset:
        rows = settings.batch_size // (num_pipelines * replicas)

        def batches():
            element = start_step * replicas
            while True:
                step, replica = divmod(element, replicas)
                first = (pipeline_index * replicas + replica) * rows
                time.sleep(pause / replicas)
                # The global numbers of the examples, [rows, iter_size]: the same whoever reads them.
                numbers = (
                    step * settings.batch_size * settings.iter_size
                    + np.arange(settings.iter_size) * settings.batch_size
                    + np.arange(first, first + rows)[:, np.newaxis]
                )
                pairs = [[example(int(number)) for number in row] for row in numbers]
                yield {
                    "image": np.array([[image for image, _ in row] for row in pairs], np.float32),
                    "labels": np.array([[labels for _, labels in row] for row in pairs], np.int32),
                    "seeds": np.stack([numbers, numbers + 1], axis=-1).astype(np.int32),
                }
                element += 1

        shape = (rows, settings.iter_size)
        signature = {
            "image": tf.TensorSpec((*shape, 33, 33, 3), tf.float32),
            "labels": tf.TensorSpec((*shape, 33, 33), tf.int32),
            "seeds": tf.TensorSpec((*shape, 2), tf.int32),
        }
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return tf.data.Dataset.from_generator(batches, output_signature=signature).with_options(options)

    split = None
    if validate:
        split = ValidationSplit("val", validate, lambda: (("id", *example(10**6 + i)) for i in range(validate)))
    training.build_network = lambda *_: tiny_network(scales=scales, hidden_units=4)
    training.train(config, workdir, make_batches, init="none", strategy_name=strategy, validation_split=split)


if __name__ == "__main__":
    from deeplab_tf.command_line import run

    run(main, takes_arguments=True)
