"""Mean-field inference in the dense CRF as a TensorFlow graph (Sec. 3.3, Eq. 2 and 3).

Tensors in, tensors out: for tf.function and SavedModel, for any size and number of classes. `crf.py` is for arrays.
"""

from __future__ import annotations

import tensorflow as tf

from deeplab_tf.permutohedral import GaussianFilter, build_filter, filter_in_parts

# log(0) has to be finite: a label given probability 0 can still be won back, at a cost of 46.
SMALLEST_PROBABILITY = 1e-20
# Labels are filtered in groups of eight: TensorFlow's sparse product takes less time for eight columns than for
# three. Above 31 it is slow, so there are three groups at most in one product.
_GROUP = 8
_MOST_COLUMNS = 24


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

    Differentiable with respect to probabilities, w1 and w2; image and sigmas are constants. Values are not checked,
    other than by TensorFlow.

    Args:
        image: uint8 [H, W, 3], RGB as stored. Height and width may be unknown while tracing.
        probabilities: float32 [H, W, K], summing to 1; K known while tracing.
        w1: weight of the bilateral kernel, >= 0.
        sigma_alpha: its reach in pixels, > 0.
        sigma_beta: its reach in RGB levels, > 0.
        w2: weight of the smoothness kernel, >= 0.
        sigma_gamma: its reach in pixels, > 0.
        iterations: mean-field updates, >= 0.
        min_probability: a label that no pixel gives this much, before the first or any later update, may be left
            out from then on; it gets 0. The likeliest stay, in groups of eight.
        normalization: "symmetric" or "after", see `deeplab_tf.permutohedral.build_filter`.

    Returns:
        float32 [H, W, K], summing to 1 over the last axis.

    Raises:
        ValueError: K unknown, or an unknown normalization.
        tf.errors.InvalidArgumentError: when run, sigmas too small for the size of the image.
    """
    num_classes = probabilities.shape[-1]
    if num_classes is None:
        raise ValueError("the CRF needs a known number of classes: probabilities [H, W, K] came with K unknown.")
    by_class = tf.transpose(tf.reshape(probabilities, [-1, num_classes]))  # [K, N]
    labels = _find_likely(by_class, min_probability)  # [L]
    p = tf.maximum(tf.gather(by_class, labels), SMALLEST_PROBABILITY)
    p /= tf.reduce_sum(p, axis=0)
    # Whole groups: a label that does not exist, and has no chance, costs nothing.
    missing = -tf.size(labels) % _GROUP
    labels = tf.pad(labels, [[0, missing]], constant_values=num_classes)
    log_p = tf.transpose(tf.pad(tf.math.log(p), [[0, missing], [0, 0]], constant_values=-100.0))  # [N, L]
    q = tf.transpose(tf.pad(p, [[0, missing], [0, 0]]))  # [N, L]
    if iterations > 0 and num_classes > 1:
        position, colour = _embed_pixels(image)
        bilateral = build_filter(
            [*(axis / sigma_alpha for axis in position), *(channel / sigma_beta for channel in colour)], normalization
        )
        smooth = build_filter([axis / sigma_gamma for axis in position], normalization)
        for i in range(iterations):
            if i > 0 and num_classes > _GROUP:
                labels, log_p, q = _drop_unlikely(labels, log_p, q, min_probability)
            # Potts: up to a constant for the pixel, a label earns what the neighbours with that label weigh.
            messages = _filter(bilateral, q, w1, num_classes) + _filter(smooth, q, w2, num_classes)
            q = _softmax(tf.add_n([log_p, *messages]))
    found = tf.size(labels)
    rows = tf.tensor_scatter_nd_update(tf.fill([num_classes + 1], found), labels[:, None], tf.range(found))
    refined = tf.gather(tf.pad(tf.transpose(q), [[0, 1], [0, 0]]), rows[:num_classes])  # [K, N]
    return tf.reshape(tf.transpose(refined), tf.shape(probabilities))


def _embed_pixels(image: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Returns x and y in pixels, and red, green and blue in levels, each float32 [N], row by row."""
    shape = tf.shape(image)
    height, width = shape[0], shape[1]
    x = tf.tile(tf.range(tf.cast(width, tf.float32)), [height])
    y = tf.reshape(tf.broadcast_to(tf.range(tf.cast(height, tf.float32))[:, None], [height, width]), [-1])
    return [x, y], tf.unstack(tf.cast(tf.transpose(tf.reshape(image, [-1, 3])), tf.float32))


def _filter(gaussian: GaussianFilter, q: tf.Tensor, weight: tf.Tensor | float, num_classes: int) -> list[tf.Tensor]:
    """Filters float32 [N, L]; returns parts of that shape, yet to be added up."""
    if num_classes <= _MOST_COLUMNS:
        return filter_in_parts(gaussian, q, weight)
    # As many pieces as all classes would need; those without columns cost nothing.
    pieces = [
        filter_in_parts(gaussian, q[:, start : start + _MOST_COLUMNS], weight)
        for start in range(0, num_classes, _MOST_COLUMNS)
    ]
    return [tf.concat(parts, axis=1) for parts in zip(*pieces, strict=True)]


def _find_likely(by_class: tf.Tensor, min_probability: tf.Tensor | float) -> tf.Tensor:
    """Picks the likeliest of some labels: all that reach min_probability somewhere, filled up to whole groups.

    Args:
        by_class: float32 [L, N], probabilities.
        min_probability: to be reached.

    Returns:
        int32, rows of by_class.
    """
    highest = tf.reduce_max(by_class, axis=1)
    needed = tf.maximum(tf.math.count_nonzero(highest >= min_probability, dtype=tf.int32), 1)
    return tf.math.top_k(highest, tf.minimum(-(-needed // _GROUP) * _GROUP, tf.size(highest))).indices


def _drop_unlikely(
    labels: tf.Tensor, log_p: tf.Tensor, q: tf.Tensor, min_probability: tf.Tensor | float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Leaves out unlikely labels where that saves a group of columns.

    Args:
        labels: int32 [L], what the columns are.
        log_p: float32 [N, L].
        q: float32 [N, L], the current beliefs.
        min_probability: what a belief has to reach somewhere.

    Returns:
        The three with as many columns or fewer.
    """

    def pick(columns: tf.Tensor, likely: tf.Tensor) -> tf.Tensor:
        return tf.transpose(tf.gather(tf.transpose(columns), likely))

    def drop() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        likely = _find_likely(tf.transpose(q), min_probability)
        kept = pick(q, likely)
        kept /= tf.reduce_sum(kept, axis=1, keepdims=True)
        return tf.gather(labels, likely), pick(log_p, likely), kept

    return tf.cond(tf.size(labels) > _GROUP, drop, lambda: (labels, log_p, q))


def _softmax(logits: tf.Tensor) -> tf.Tensor:
    """Normalises float32 [N, L]. For few columns this is twice as fast on CPUs as tf.nn.softmax."""
    columns = tf.transpose(logits)
    e = tf.exp(columns - tf.reduce_max(columns, axis=0))
    return tf.transpose(e / tf.reduce_sum(e, axis=0))
