"""One update of the weights (Sec. 4): losses, gradients, accumulation, the same on one device or many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.layers.depthwise_gradient import kernel_gradients_in_pieces
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.training import losses


def build_train_step(
    model: DeepLab,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    ignore_label: int,
    class_weights: Sequence[float] = (),
    xla: bool = False,
) -> tuple[Callable[[dict[str, Any]], tf.Tensor], list[str]]:
    """Builds the update of the weights.

    Every loss is the mean over the valid pixels of the micro-batch on all replicas: sums and counts are added
    before they are divided. The gradients of the micro-batches are averaged (iter_size).

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
    scales = model.scales
    strides = losses.label_strides(model.output_stride, scales)
    several = scales != (1.0,)
    names = [f"scale_{scale:g}" for scale in scales] + (["fused"] if several else [])
    term_strides = [stride or model.output_stride for stride in strides] + ([model.output_stride] if several else [])
    variables = model.trainable_variables

    def term_sums(images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor) -> list[tf.Tensor]:
        """The cross-entropy of every scale and of the fused scores, summed over this replica's pixels."""
        maps = model.score_maps(images, seeds)
        fused, resized = model.fuse(maps, images)
        logits = [own if stride else at_one for stride, own, at_one in zip(strides, maps, resized, strict=True)]
        logits += [fused] if several else []
        return [
            losses.cross_entropy_sum(scores, losses.subsample_labels(labels, stride), ignore_label, class_weights)
            for scores, stride in zip(logits, term_strides, strict=True)
        ]

    def replica_step(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        # [b, I, ...] -> [I, b, ...]: one entry per micro-batch.
        micro = {name: tf.transpose(x, [1, 0, *range(2, x.shape.rank)]) for name, x in batch.items()}
        iter_size = batch["labels"].shape[1]
        counts = tf.stack(
            [
                tf.stack(
                    [
                        losses.count_valid(losses.subsample_labels(micro["labels"][i], s), ignore_label, class_weights)
                        for s in term_strides
                    ]
                )
                for i in range(iter_size)
            ]
        )  # [I, terms]
        counts = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, counts)

        def gradients_of(
            images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor, counts: tf.Tensor
        ) -> tuple[tf.Tensor, list[tf.Tensor]]:
            with tf.GradientTape() as tape, kernel_gradients_in_pieces():
                sums = term_sums(images, labels, seeds)
                terms = tf.math.divide_no_nan(tf.stack(sums), counts)  # [terms]
                loss = tf.reduce_sum(terms) / iter_size
                scaled = optimizer.scale_loss(loss)
            return terms / iter_size, tape.gradient(scaled, variables)

        if xla:
            gradients_of = tf.function(gradients_of, jit_compile=True, autograph=False)

        def micro_step(i: int | tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
            return gradients_of(micro["image"][i], micro["labels"][i], micro["seeds"][i], counts[i])

        if iter_size == 1:
            terms, gradients = micro_step(0)
        else:
            # A loop in the graph: one micro-batch's activations at a time.
            def accumulate(i: tf.Tensor, terms: tf.Tensor, gradients: list[tf.Tensor]) -> tuple[Any, ...]:
                more_terms, more = micro_step(i)
                return i + 1, terms + more_terms, [a + b for a, b in zip(gradients, more, strict=True)]

            start = (tf.constant(0), tf.zeros(len(term_strides)), [tf.zeros(v.shape) for v in variables])
            _, terms, gradients = tf.while_loop(lambda i, *_: i < iter_size, accumulate, start, parallel_iterations=1)
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            gradients = _overflowing_together(gradients)
        optimizer.apply(gradients, variables)  # adds the replicas' gradients first
        return terms

    @tf.function
    def step(batch: dict[str, Any]) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(replica_step, args=(batch,)), axis=None)

    return step, names


def _overflowing_together(gradients: list[tf.Tensor]) -> list[tf.Tensor]:
    """Makes a gradient that is not finite on one replica so on all.

    Keras decides by each replica's own gradients whether to leave an update out; the replicas have to agree.
    """
    # 0 * x is 0 for finite x, else NaN.
    spoiled = tf.add_n([tf.reduce_sum(0 * gradient) for gradient in gradients])
    spoiled = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, spoiled)
    return [gradient + spoiled for gradient in gradients]
