"""The dense CRF of one image in TensorFlow ops: traces the graphs of `mean_field` and keeps them for the next image."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab_tf.crf.params import CrfParams

if TYPE_CHECKING:
    import tensorflow as tf

    from deeplab_tf.crf.permutohedral import GaussianFilter

# Pixels of an image whose filter of the smoothness kernel is kept for the next one.
_LARGEST_KEPT = 2**19


def refine(
    image: np.ndarray,
    probabilities: np.ndarray,
    params: CrfParams,
    weights: Sequence[float],
    min_probability: float | None,
    normalization: str,
) -> list[np.ndarray]:
    """Refines once for each of some w1, which take the place of that of params; all else as for `dense_crf`."""
    height, width, num_classes = probabilities.shape
    # A large one is not worth the memory that it would keep.
    build = _build_smoothness if height * width <= _LARGEST_KEPT else _build_smoothness.__wrapped__
    smoothness = build(height, width, params.sigma_gamma, normalization)
    bilateral = _trace_bilateral(normalization)(image, np.float32(params.sigma_alpha), np.float32(params.sigma_beta))
    function = _trace(num_classes, int(params.iterations), normalization, min_probability is None)
    others = [np.float32(constant) for constant in (params.w2, min_probability or 0)]
    return [function(probabilities, bilateral, smoothness, np.float32(w1), *others).numpy() for w1 in weights]


# Most images of a data set have one of two sizes, upright or lying. 35 MB for one of 500 x 375 pixels.
@functools.lru_cache(maxsize=2)
def _build_smoothness(height: int, width: int, sigma_gamma: float, normalization: str) -> GaussianFilter:
    return _trace_smoothness(normalization)(height, width, np.float32(sigma_gamma))


@functools.lru_cache(maxsize=2)
def _trace_smoothness(normalization: str) -> Any:
    """Returns a tf.function from height, width and sigma_gamma to a filter."""
    import tensorflow as tf

    from deeplab_tf.crf.mean_field import build_smoothness

    signature = [tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32)]
    build = functools.partial(build_smoothness, normalization=normalization)
    return tf.function(build, input_signature=signature, autograph=False)


@functools.lru_cache(maxsize=2)
def _trace_bilateral(normalization: str) -> Any:
    """Returns a tf.function from an image, sigma_alpha and sigma_beta to a filter."""
    import tensorflow as tf

    from deeplab_tf.crf.mean_field import build_bilateral

    signature = [tf.TensorSpec([None, None, 3], tf.uint8), *2 * [tf.TensorSpec([], tf.float32)]]
    build = functools.partial(build_bilateral, normalization=normalization)
    return tf.function(build, input_signature=signature, autograph=False)


@functools.lru_cache(maxsize=16)
def _trace(num_classes: int, iterations: int, normalization: str, takes_proven_limit: bool) -> Any:
    """Returns a tf.function from probabilities, the two filters, w1, w2 and min_probability to the refined ones.

    With takes_proven_limit the last argument does not matter.
    """
    import tensorflow as tf

    from deeplab_tf.crf.mean_field import update

    def refined(
        probabilities: tf.Tensor,
        bilateral: GaussianFilter,
        smoothness: GaussianFilter,
        w1: tf.Tensor,
        w2: tf.Tensor,
        min_probability: tf.Tensor,
    ) -> tf.Tensor:
        kernels = ((bilateral, w1), (smoothness, w2))
        least = None if takes_proven_limit else min_probability
        return update(probabilities, kernels, iterations=iterations, min_probability=least)

    filters = [
        tf.nest.map_structure(
            lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype),
            trace(normalization).get_concrete_function().structured_outputs,
        )
        for trace in (_trace_bilateral, _trace_smoothness)
    ]
    probabilities = tf.TensorSpec([None, None, num_classes], tf.float32)
    signature = [probabilities, *filters, *3 * [tf.TensorSpec([], tf.float32)]]
    return tf.function(refined, input_signature=signature, autograph=False)
