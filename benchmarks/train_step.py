"""A step of training to time: a network with its solver, and images that are already in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def build_step(experiment: str, batch: int, settings: Sequence[str], xla: bool = False) -> Callable[[], Any]:
    """Builds a step of an experiment with 21 classes, on the first GPU or the CPU.

    Args:
        experiment: its name.
        batch: images of a step, of random pixels and labels.
        settings: section.field=value, such as train.precision=bfloat16.
        xla: see `deeplab_tf.train_step.build_train_step`.

    Returns:
        A function that trains on the same batch at each call and returns the losses, float32 [terms]. On a GPU it
        returns before the work is done.
    """
    import tensorflow as tf

    from deeplab_tf import config as configs
    from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
    from deeplab_tf.experiments import experiment_config
    from deeplab_tf.runtime import devices
    from deeplab_tf.training import loop as training
    from deeplab_tf.training.step import build_train_step

    info = DatasetInfo("benchmark", tuple(map(str, range(21))), pascal_palette(21))
    config = configs.override(experiment_config(experiment), [*settings, "optimizer.base_lr=1e-6"])
    strategy = devices.build_strategy("one_device")
    model, optimizer = training.build(dataclasses.replace(config, dataset=info), strategy)
    step, _ = build_train_step(model, optimizer, strategy, info.ignore_label, xla=xla)
    random = np.random.default_rng(0)
    shape = (batch, 1, config.train.crop_size, config.train.crop_size)
    data = {
        "image": tf.constant(random.uniform(0, 255, (*shape, 3)), tf.float32),
        "labels": tf.constant(random.integers(0, 21, shape), tf.int32),
        "seeds": tf.constant(random.integers(0, 1 << 30, (batch, 1, 2)), tf.int32),
    }
    return lambda: step(data)
