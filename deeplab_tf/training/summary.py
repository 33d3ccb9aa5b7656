"""What a training says about itself: the summary at its start, and pictures of what it sees."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab_tf.config import Config
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.images import visualize
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.runtime import devices


def summary(config: Config, model: DeepLab, strategy: tf.distribute.Strategy, workdir: str) -> str:
    """Describes a training in some lines: what is trained, on what, where and how."""
    settings, solver, info = config.train, config.optimizer, config.info
    replicas = strategy.num_replicas_in_sync
    on_each = f"{settings.batch_size // replicas} on each of {replicas} devices" if replicas > 1 else "on one device"
    trainable = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    rows = {
        "experiment": f"{config.experiment}, {model.count_params() / 1e6:.1f}M parameters "
        f"({trainable / 1e6:.1f}M trained)",
        "data": f"{info.name}, {info.num_classes} classes: {', '.join(info.class_names)}",
        "devices": devices.describe(strategy),
        "batch": f"{settings.batch_size * settings.iter_size} images an update = {settings.batch_size} at a time "
        f"({on_each}) x iter_size {settings.iter_size}, crops of {settings.crop_size}",
        "solver": f"{solver.name}, base_lr {solver.base_lr:g}, {solver.policy}, {settings.iterations} updates",
        "regularly": f"a checkpoint every {settings.save_every} updates, with --eval_split a validation every "
        f"{settings.eval_every}",
        "precision": settings.precision + (", compiled by XLA" if settings.xla else ""),
        "workdir": f"{workdir} (tensorboard --logdir={workdir})",
    }
    return "\n".join(f"{name:>12}  {text}" for name, text in rows.items())


def training_picture(model: DeepLab, batch: dict[str, Any], info: DatasetInfo, most: int = 3) -> np.ndarray:
    """Shows images of the first replica's batch with their labels and what the network says now.

    Args:
        model: the network.
        batch: as the training step takes it.
        info: the classes.
        most: rows of the picture.

    Returns:
        uint8 [H, W, 3].
    """
    first = {name: _first_replica(value)[:most, 0] for name, value in batch.items()}
    predictions = np.argmax(model(first["image"]), axis=-1)
    rows = []
    for image, labels, cells in zip(first["image"].numpy(), first["labels"].numpy(), predictions, strict=True):
        image = np.clip(np.round(image), 0, 255).astype(np.uint8)
        coarse = np.kron(cells, np.ones((model.output_stride, model.output_stride), np.uint8))
        coarse = coarse[: labels.shape[0], : labels.shape[1]].astype(np.uint8)
        rows.append([image, visualize.colourize(labels, info.palette), visualize.colourize(coarse, info.palette)])
    return visualize.panel(rows, ["image", "truth", "network"], class_names=info.class_names, palette=info.palette)


def _first_replica(value: Any) -> tf.Tensor:
    return value.values[0] if hasattr(value, "values") else value
