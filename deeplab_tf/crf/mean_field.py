"""Mean-field inference in the dense CRF as a TensorFlow graph (Sec. 3.3, Eq. 2 and 3).

Tensors in, tensors out: for tf.function and SavedModel, for any size and number of classes. `dense_crf` is for arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import tensorflow as tf

from deeplab_tf.crf import pruning
from deeplab_tf.crf.permutohedral import GaussianFilter, build_filter, filter_in_parts

# log(0) has to be finite: a label given probability 0 can still be won back, at a cost of 46.
SMALLEST_PROBABILITY = 1e-20
# Labels are filtered in groups of eight, each on its own thread: TensorFlow's sparse product uses one thread, and takes
# less time for eight columns than for twice four.
_GROUP = 8
# They are left out in fours: eight take 1.6 times as long as four, and three no less.
LEFT_OUT = 4


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
    min_probability: tf.Tensor | float | None,
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
        min_probability: a label that no pixel gives this much may be left out, and gets 0. None for a limit that
            follows from the weights, see `deeplab_tf.crf.pruning`. The likeliest stay, a multiple of four.
        normalization: "symmetric" or "after", see `deeplab_tf.crf.permutohedral.build_filter`.

    Returns:
        float32 [H, W, K], summing to 1 over the last axis.

    Raises:
        ValueError: K unknown, or an unknown normalization.
        tf.errors.InvalidArgumentError: when run, sigmas too small for the size of the image.
    """
    kernels = []
    if iterations > 0:
        height, width = tf.unstack(tf.shape(image)[:2])
        kernels = [
            (build_bilateral(image, sigma_alpha, sigma_beta, normalization), w1),
            (build_smoothness(height, width, sigma_gamma, normalization), w2),
        ]
    return update(probabilities, kernels, iterations=iterations, min_probability=min_probability)


def update(
    probabilities: tf.Tensor,
    kernels: Sequence[tuple[GaussianFilter, tf.Tensor | float]],
    *,
    iterations: int,
    min_probability: tf.Tensor | float | None,
) -> tf.Tensor:
    """Does the mean-field updates of `refine` with kernels that are there already.

    Args:
        probabilities: float32 [H, W, K], summing to 1; K known while tracing.
        kernels: filters around the H * W pixels, row by row, and the weight of each, >= 0.
        iterations: mean-field updates, >= 0.
        min_probability: as for `refine`.

    Returns:
        float32 [H, W, K], summing to 1 over the last axis.

    Raises:
        ValueError: K unknown.
    """
    num_classes = probabilities.shape[-1]
    if num_classes is None:
        raise ValueError("the CRF needs a known number of classes: probabilities [H, W, K] came with K unknown.")
    by_class = tf.transpose(tf.reshape(probabilities, [-1, num_classes]))  # [K, N]
    by_class /= tf.reduce_sum(by_class, axis=0)
    if iterations == 0:
        return tf.reshape(tf.transpose(by_class), tf.shape(probabilities))
    total_weight = tf.add_n([weight * kernel.largest_row_sum for kernel, weight in kernels])
    labels = choose_labels(by_class, total_weight, min_probability)  # [L]
    p = tf.maximum(tf.gather(by_class, labels), SMALLEST_PROBABILITY)
    is_left_out = tf.tensor_scatter_nd_update(tf.ones([num_classes]), labels[:, None], tf.zeros_like(p[:, 0]))
    rest = tf.linalg.matvec(by_class, is_left_out, transpose_a=True)  # [N], what labels left out have together
    total = tf.reduce_sum(p, axis=0) + rest
    p, rest = p / total, rest / total
    # Up to a multiple: a label that does not exist, and has no chance, costs nothing.
    missing = -tf.size(labels) % LEFT_OUT
    labels = tf.pad(labels, [[0, missing]], constant_values=num_classes)
    log_p = tf.transpose(tf.pad(tf.math.log(p), [[0, missing], [0, 0]], constant_values=-100.0))  # [N, L]
    q = tf.transpose(tf.pad(p, [[0, missing], [0, 0]]))  # [N, L]
    # As many groups as all classes would need: the last with labels is [N, 4] or [N, 8], those behind it [N, 0].
    unary, beliefs = _split(log_p, num_classes), _split(q, num_classes)
    for i in range(iterations):
        # Potts: up to a constant for the pixel, a label earns what the neighbours with that label weigh.
        logits = [
            tf.add_n([log_p, *(part for kernel, weight in kernels for part in filter_in_parts(kernel, q, weight))])
            for log_p, q in zip(unary, beliefs, strict=True)
        ]
        beliefs = _softmax(logits, rest if i < iterations - 1 else tf.zeros_like(rest))
    found = tf.size(labels)
    rows = tf.tensor_scatter_nd_update(tf.fill([num_classes + 1], found), labels[:, None], tf.range(found))
    by_column = tf.transpose(tf.concat(beliefs, 1))  # [L, N]
    refined = tf.gather(tf.pad(by_column, [[0, 1], [0, 0]]), rows[:num_classes])  # [K, N]
    return tf.reshape(tf.transpose(refined), tf.shape(probabilities))


def choose_labels(
    by_class: tf.Tensor, total_weight: tf.Tensor | float, min_probability: tf.Tensor | float | None
) -> tf.Tensor:
    """Picks the labels that take part in the updates.

    Args:
        by_class: float32 [K, N], summing to 1; K known while tracing.
        total_weight: the largest sum of a row of the weighted kernels.
        min_probability: as for `refine`.

    Returns:
        int32 [L], the likeliest first.
    """
    limits = label_limits(total_weight, by_class.shape[0], min_probability)
    return pruning.choose_labels(by_class, limits, LEFT_OUT)


def label_limits(
    total_weight: tf.Tensor | float, num_classes: int, min_probability: tf.Tensor | float | None
) -> pruning.Limits:
    """Returns which labels may be left out; the arguments are those of `choose_labels`."""
    if min_probability is None:
        return pruning.proven_limits(total_weight, num_classes)
    return pruning.given_limits(min_probability)


def _split(columns: tf.Tensor, num_classes: int) -> list[tf.Tensor]:
    """Cuts float32 [N, L] into the groups that num_classes classes would need."""
    return [columns[:, start : start + _GROUP] for start in range(0, num_classes, _GROUP)]


def build_bilateral(
    image: tf.Tensor, sigma_alpha: tf.Tensor | float, sigma_beta: tf.Tensor | float, normalization: str = "symmetric"
) -> GaussianFilter:
    """Builds the filter of the bilateral kernel around the pixels of an image uint8 [H, W, 3]."""
    position, colour = embed_pixels(image)
    features = [*(axis / sigma_alpha for axis in position), *(channel / sigma_beta for channel in colour)]
    return build_filter(features, normalization)


def build_smoothness(
    height: tf.Tensor, width: tf.Tensor, sigma_gamma: tf.Tensor | float, normalization: str = "symmetric"
) -> GaussianFilter:
    """Builds the filter of the smoothness kernel, which depends on the size of an image but not on its colours."""
    return build_filter([axis / sigma_gamma for axis in _positions(height, width)], normalization)


def embed_pixels(image: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Returns x and y in pixels, and red, green and blue in levels, each float32 [N], row by row."""
    shape = tf.shape(image)
    colours = tf.cast(tf.transpose(tf.reshape(image, [-1, 3])), tf.float32)
    return _positions(shape[0], shape[1]), tf.unstack(colours)


def _positions(height: tf.Tensor, width: tf.Tensor) -> list[tf.Tensor]:
    x = tf.tile(tf.range(tf.cast(width, tf.float32)), [height])
    y = tf.repeat(tf.range(tf.cast(height, tf.float32)), width)
    return [x, y]


def _softmax(logits: list[tf.Tensor], rest: tf.Tensor) -> list[tf.Tensor]:
    """Normalises the columns of all groups, and float32 [N] of the labels left out, which take their share.

    For few columns this is twice as fast on CPUs as tf.nn.softmax.
    """
    columns = [tf.transpose(group) for group in logits]  # [8, N]
    highest = tf.stop_gradient(functools.reduce(tf.maximum, [tf.reduce_max(group, axis=0) for group in columns]))
    e = [tf.exp(group - highest) for group in columns]
    total = tf.add_n([tf.reduce_sum(group, axis=0) for group in e]) + rest * tf.exp(-highest)
    return [tf.transpose(group / total) for group in e]
