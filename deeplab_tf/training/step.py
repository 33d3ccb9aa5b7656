"""The update of the weights on every replica of a strategy; `networks/update.py` has what each does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.networks.update import Terms, update_weights
from deeplab_tf.training.losses import SegmentationLoss


def build_train_step(
    model: DeepLab,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    ignore_label: int,
    class_weights: Sequence[float] = (),
    xla: bool = False,
) -> tuple[Callable[[dict[str, Any]], tf.Tensor], list[str]]:
    """Builds the update of the weights, see `update_weights`.

    Args:
        model: the network.
        optimizer: built for the model's trainable variables.
        strategy: the model's.
        ignore_label: of pixels that do not count.
        class_weights: see `losses.cross_entropy_sum`.
        xla: compile forward and backward pass of a micro-batch.

    Returns:
        The step, and the names of what it returns. The step takes {"image": float32 [b, I, H, W, 3] RGB
        0..255, "labels": int32 [b, I, H, W], "seeds": int32 [b, I, 2]} per replica, I = iter_size, and
        returns float32 [terms], each loss averaged over the micro-batches.
    """
    loss = SegmentationLoss(ignore_label, class_weights)

    def replica_step(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        return update_weights(model, optimizer, loss, batch, xla=xla)

    @tf.function
    def step(batch: dict[str, Any]) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(replica_step, args=(batch,)), axis=None)

    return step, Terms(model, loss).names
