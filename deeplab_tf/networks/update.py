"""One update of the weights (Sec. 4): losses of all scales, gradients, accumulation, on one device or many.

`train.py` and `DeepLab.fit` both take it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import keras
import tensorflow as tf

from deeplab_tf.errors import UserError
from deeplab_tf.layers.depthwise_gradient import kernel_gradients_in_pieces

if TYPE_CHECKING:
    from deeplab_tf.networks.deeplab import DeepLab

Batch = dict[str, Any]
"""{"image": [b, I, H, W, 3] RGB 0..255, "labels": int32 [b, I, H, W], "seeds": int32 [b, I, 2]} of one replica, I
micro-batches."""


@runtime_checkable
class LossOfScales(Protocol):
    """What a loss has to say for every scale to have its own: see `training.losses.SegmentationLoss`."""

    ignore_label: int

    def strides(self, output_stride: int, scales: Sequence[float]) -> list[int | None]:
        """Returns per scale the stride of its labels, or None for scores that are resized to scale 1 first."""

    def total(self, scores: tf.Tensor, labels: tf.Tensor, stride: int) -> tf.Tensor:
        """Adds the loss of all valid cells of a score map, float32 []; labels int32 [B, H, W]."""

    def count(self, labels: tf.Tensor, stride: int) -> tf.Tensor:
        """Returns what `total` is to be divided by for a mean, float32 []."""


Observe = Callable[[tf.Tensor, tf.Tensor], None]
"""Takes the labels, int32 [b, H, W], and the fused scores, float32 [b, h, w, K], of a micro-batch."""


class Terms:
    """The losses of a network: one for each scale and, of several, one of the fused scores.

    Args:
        model: the network.
        loss: of one score map.
    """

    def __init__(self, model: DeepLab, loss: LossOfScales) -> None:
        self._model = model
        self._loss = loss
        self._own_strides = loss.strides(model.output_stride, model.scales)
        several = model.scales != (1.0,)
        self.names = [f"scale_{scale:g}" for scale in model.scales] + (["fused"] if several else [])
        self._strides = [stride or model.output_stride for stride in self._own_strides]
        self._strides += [model.output_stride] if several else []

    def totals(
        self, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor | None
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Returns each loss, summed over this replica's pixels, and the fused scores.

        Args:
            images: RGB 0..255 [b, H, W, 3].
            labels: int32 [b, H, W].
            seeds: int32 [b, 2], of dropout; None for none.
        """
        maps = self._model.score_maps(images, seeds)
        fused, resized = self._model.fuse(maps, images)
        judged = [
            own if stride else at_one for stride, own, at_one in zip(self._own_strides, maps, resized, strict=True)
        ]
        judged += [fused] if len(self._strides) > len(judged) else []
        totals = [self._loss.total(scores, labels, s) for scores, s in zip(judged, self._strides, strict=True)]
        return totals, fused

    def counts(self, labels: tf.Tensor) -> tf.Tensor:
        """Returns what each total is to be divided by on this replica, float32 [terms]."""
        return tf.stack([self._loss.count(labels, stride) for stride in self._strides])


def sum_over_replicas(x: tf.Tensor) -> tf.Tensor:
    """Adds the values that the replicas have."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, x)


def update_weights(
    model: DeepLab,
    optimizer: keras.optimizers.Optimizer,
    loss: LossOfScales,
    batch: Batch,
    *,
    xla: bool = False,
    observe: Observe | None = None,
) -> tf.Tensor:
    """Updates the weights; in a graph, on each replica.

    Every loss is the mean over the valid pixels of the micro-batch on all replicas: sums and counts are added
    before they are divided. The gradients of the micro-batches are averaged (iter_size).

    Args:
        model: the network.
        optimizer: for its trainable variables.
        loss: of one score map.
        batch: of this replica.
        xla: compile forward and backward pass of a micro-batch.
        observe: called with what the network made of each micro-batch.

    Returns:
        float32 [terms], each loss averaged over the micro-batches, this replica's share; in the order of `Terms.names`.
    """
    terms = Terms(model, loss)
    variables = model.trainable_variables
    # [b, I, ...] -> [I, b, ...]: one entry per micro-batch.
    micro = {name: tf.transpose(x, [1, 0, *range(2, x.shape.rank)]) for name, x in batch.items()}
    iter_size = batch["labels"].shape[1]
    counts = sum_over_replicas(tf.stack([terms.counts(micro["labels"][i]) for i in range(iter_size)]))  # [I, terms]

    def gradients_of(
        images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor, counts: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        with tf.GradientTape() as tape, kernel_gradients_in_pieces():
            totals, fused = terms.totals(images, labels, seeds)
            means = tf.math.divide_no_nan(tf.stack(totals), counts)  # [terms]
            scaled = optimizer.scale_loss(tf.reduce_sum(means) / iter_size)
        return means / iter_size, tape.gradient(scaled, variables), [fused] if observe else []

    if xla:
        gradients_of = tf.function(gradients_of, jit_compile=True, autograph=False)

    def micro_step(i: int | tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        means, gradients, fused = gradients_of(micro["image"][i], micro["labels"][i], micro["seeds"][i], counts[i])
        if observe:
            observe(micro["labels"][i], fused[0])
        return means, gradients

    if iter_size == 1:
        means, gradients = micro_step(0)
    else:
        # A loop in the graph: one micro-batch's activations at a time.
        def accumulate(i: tf.Tensor, means: tf.Tensor, gradients: list[tf.Tensor]) -> tuple[Any, ...]:
            more_means, more = micro_step(i)
            return i + 1, means + more_means, [a + b for a, b in zip(gradients, more, strict=True)]

        start = (tf.constant(0), tf.zeros(len(terms.names)), [tf.zeros(v.shape) for v in variables])
        _, means, gradients = tf.while_loop(lambda i, *_: i < iter_size, accumulate, start, parallel_iterations=1)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        gradients = _overflowing_together(gradients)
    optimizer.apply(gradients, variables)  # adds the replicas' gradients first
    return means


def _overflowing_together(gradients: list[tf.Tensor]) -> list[tf.Tensor]:
    """Makes a gradient that is not finite on one replica so on all.

    Keras decides by each replica's own gradients whether to leave an update out; the replicas have to agree.
    """
    # 0 * x is 0 for finite x, else NaN.
    spoiled = sum_over_replicas(tf.add_n([tf.reduce_sum(0 * gradient) for gradient in gradients]))
    return [gradient + spoiled for gradient in gradients]


def refuse_frozen_weights() -> None:
    """Refuses to train where TensorFlow is told that weights do not change.

    Its CPU convolutions would then keep the kernels of their first step, and nothing would say so.

    Raises:
        UserError: TF_ONEDNN_ASSUME_FROZEN_WEIGHTS is set in this process.
    """
    name = "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"
    if os.environ.get(name, "0").lower() not in ("", "0", "false"):
        raise UserError(
            f"{name} is set: TensorFlow would train with the weights of the first step. It is for programs that only"
            f" predict. Unset it (unset {name}) and start the process again."
        )
