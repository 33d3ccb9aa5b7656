"""Mean-field inference in the dense CRF as a TensorFlow graph (Sec. 3.3, Eq. 2 and 3).

Tensors in, tensors out: for tf.function and SavedModel, on CPU and GPU, for any size and number of classes. `crf.py`
is for arrays.
"""

from __future__ import annotations

import tensorflow as tf

from deeplab_tf.permutohedral import apply_filter, build_filter

# log(0) has to be finite: a label given probability 0 can still be won back, at a cost of 46.
SMALLEST_PROBABILITY = 1e-20


def refine(
    image: tf.Tensor,
    probabilities: tf.Tensor,
    w1: tf.Tensor | float,
    sigma_alpha: tf.Tensor | float,
    sigma_beta: tf.Tensor | float,
    w2: tf.Tensor | float,
    sigma_gamma: tf.Tensor | float,
    *,
    iterations: int,
    min_probability: tf.Tensor | float,
    normalization: str = "symmetric",
) -> tf.Tensor:
    """Refines the probabilities of one image.

    Differentiable with respect to probabilities, w1 and w2; the sigmas and the image are constants.

    Args:
        image: uint8 [H, W, 3], RGB as stored. Height and width may be unknown while tracing.
        probabilities: float32 [H, W, K], summing to 1; K known.
        w1: weight of the bilateral kernel, >= 0.
        sigma_alpha: its reach in pixels, > 0.
        sigma_beta: its reach in RGB levels, > 0.
        w2: weight of the smoothness kernel, >= 0.
        sigma_gamma: its reach in pixels, > 0.
        iterations: mean-field updates, >= 0.
        min_probability: labels below this in every pixel are left out and get 0, but never the two likeliest.
        normalization: see `dense_crf`.

    Returns:
        float32 [H, W, K], summing to 1 over the last axis.
    """
    num_classes = probabilities.shape[-1]
    if num_classes is None:
        raise ValueError("the CRF needs to know the number of classes while tracing: set the last dimension.")
    flat = tf.reshape(probabilities, [-1, num_classes])  # [N, K]
    labels = _find_likely(flat, min_probability)  # [L]
    clipped = tf.maximum(tf.gather(flat, labels, axis=1), SMALLEST_PROBABILITY)
    log_p = tf.math.log(clipped / tf.reduce_sum(clipped, axis=1, keepdims=True))
    # A label with probability 0 costs nothing where it makes a multiple of eight.
    missing = -tf.size(labels) % _FAST
    labels = tf.pad(labels, [[0, missing]], constant_values=num_classes)
    log_p = tf.pad(log_p, [[0, 0], [0, missing]], constant_values=-1e9)  # [N, L]
    q = tf.exp(log_p)
    if iterations > 0 and num_classes > 1:
        position, colour = _features(image)
        bilateral = build_filter([*(p / sigma_alpha for p in position), *(c / sigma_beta for c in colour)], normalization)
        smooth = build_filter([p / sigma_gamma for p in position], normalization)
        for i in range(iterations):
            if i > 0 and num_classes > _FAST:
                labels, log_p, q = _drop_unlikely(labels, log_p, q, min_probability)
            # Potts: up to a constant for the pixel, a label earns what the neighbours with that label weigh.
            q = tf.nn.softmax(tf.add_n([log_p, w1 * apply_filter(bilateral, q), w2 * apply_filter(smooth, q)]))
    last = tf.size(labels)
    places = tf.tensor_scatter_nd_update(tf.fill([num_classes + 1], last), labels[:, None], tf.range(last))
    refined = tf.gather(tf.pad(q, [[0, 0], [0, 1]]), places[:num_classes], axis=1)
    return tf.reshape(refined, tf.shape(probabilities))


_FAST = 8


def _features(image: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    shape = tf.shape(image)
    height, width = shape[0], shape[1]
    x = tf.tile(tf.range(tf.cast(width, tf.float32)), [height])
    y = tf.reshape(tf.broadcast_to(tf.range(tf.cast(height, tf.float32))[:, None], [height, width]), [-1])
    return [x, y], tf.unstack(tf.cast(tf.transpose(tf.reshape(image, [-1, 3])), tf.float32), num=3)


def _find_likely(q: tf.Tensor, min_probability: tf.Tensor | float) -> tf.Tensor:
    num_labels = tf.shape(q)[1]
    highest = tf.reduce_max(q, axis=0)  # [L]
    needed = tf.math.count_nonzero(highest >= min_probability, dtype=tf.int32)
    return tf.math.top_k(highest, tf.minimum(tf.maximum(-(-needed // _FAST) * _FAST, _FAST), num_labels)).indices


def _drop_unlikely(labels, log_p, q, min_probability):
    likely = _find_likely(q, min_probability)

    def drop():
        kept = tf.gather(q, likely, axis=1)
        return tf.gather(labels, likely), tf.gather(log_p, likely, axis=1), kept / tf.reduce_sum(kept, axis=1, keepdims=True)

    return tf.cond(tf.size(likely) < tf.size(labels), drop, lambda: (labels, log_p, q))
