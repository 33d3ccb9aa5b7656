"""The dense CRF of one image in compiled kernels: chooses the labels, and keeps what the next image needs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab_tf.crf import compiled
from deeplab_tf.crf.compiled import Lattice
from deeplab_tf.crf.compiled_team import Team
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.runtime.threads import usable_cores

if TYPE_CHECKING:
    import tensorflow as tf

# Pixels of an image whose lattice of the smoothness kernel is kept for the next one.
_LARGEST_KEPT = 2**19
# Most images of a data set have one of two sizes, upright or lying. 20 MB for one of 500 x 375 pixels.
_MOST_KEPT = 2
_smoothness_kept: dict[tuple[int, int, float, str], Lattice] = {}
_keeping = threading.Lock()


def refine(
    image: np.ndarray,
    probabilities: np.ndarray,
    params: CrfParams,
    weights: Sequence[float],
    min_probability: float | None,
    normalization: str,
    threads: int | None,
) -> list[np.ndarray]:
    """Refines once for each of some w1, which take the place of that of params; all else as for `dense_crf`."""
    height, width, num_classes = probabilities.shape
    flat = probabilities.reshape(-1, num_classes)
    with Team(threads or usable_cores()) as team:
        smoothness = _find_smoothness(height, width, params.sigma_gamma, normalization, team)
        bilateral = compiled.build_bilateral(image, params.sigma_alpha, params.sigma_beta, normalization, team)
        refined = []
        for w1 in weights:
            kernels = [(bilateral, w1), (smoothness, params.w2)]
            total_weight = sum(weight * lattice.largest_row_sum for lattice, weight in kernels)
            labels = _choose_labels(flat, min_probability, total_weight, team)
            refined.append(compiled.update(flat, labels, kernels, int(params.iterations), team))
    return [one.reshape(probabilities.shape) for one in refined]


def _choose_labels(
    probabilities: np.ndarray, min_probability: float | None, total_weight: float, team: Team
) -> np.ndarray:
    """Returns the labels that the TensorFlow graph would keep, int32, of float32 [N, K]."""
    num_classes = probabilities.shape[1]
    if min_probability == 0:
        return np.arange(num_classes, dtype=np.int32)
    rank, keep = _trace_choice(num_classes, min_probability is None)
    limits = np.float32(total_weight), np.float32(min_probability or 0)
    found = compiled.survey_labels(probabilities, team)
    order, needed = (tensor.numpy() for tensor in rank(found.highest, found.is_likeliest, *limits))
    return keep(order, needed, compiled.sum_of_tails(probabilities, found, order, int(needed), team), *limits).numpy()


@functools.lru_cache(maxsize=16)
def _trace_choice(num_classes: int, takes_proven_limit: bool) -> tuple[Any, Any]:
    """Returns `rank_labels` and `keep_labels` as tf.functions on the processor.

    Instead of the limits they take the total weight and min_probability.
    """
    import tensorflow as tf

    from deeplab_tf.crf import pruning
    from deeplab_tf.crf.mean_field import LEFT_OUT, label_limits

    def rank(highest: tf.Tensor, is_likeliest: tf.Tensor, weight: tf.Tensor, least: tf.Tensor) -> Any:
        with tf.device("CPU"):
            limits = label_limits(weight, num_classes, None if takes_proven_limit else least)
            return pruning.rank_labels(highest, is_likeliest, limits)

    def keep(order: tf.Tensor, needed: tf.Tensor, together: tf.Tensor, weight: tf.Tensor, least: tf.Tensor) -> Any:
        with tf.device("CPU"):
            limits = label_limits(weight, num_classes, None if takes_proven_limit else least)
            return pruning.keep_labels(order, needed, together, limits, LEFT_OUT)

    numbers = 2 * [tf.TensorSpec([], tf.float32)]
    of_labels = [tf.TensorSpec([num_classes], dtype) for dtype in (tf.float32, tf.bool, tf.int32)]
    together = tf.TensorSpec([-(-num_classes // LEFT_OUT)], tf.float32)
    return (
        tf.function(rank, input_signature=[*of_labels[:2], *numbers], autograph=False),
        tf.function(
            keep, input_signature=[of_labels[2], tf.TensorSpec([], tf.int32), together, *numbers], autograph=False
        ),
    )


def _find_smoothness(height: int, width: int, sigma_gamma: float, normalization: str, team: Team) -> Lattice:
    """Takes the lattice of the smoothness kernel from those kept, or builds it."""
    key = (height, width, sigma_gamma, normalization)
    if (lattice := _smoothness_kept.get(key)) is None:
        lattice = compiled.build_smoothness(height, width, sigma_gamma, normalization, team)
        # A large one is not worth the memory that it would keep.
        if height * width <= _LARGEST_KEPT:
            with _keeping:
                _smoothness_kept[key] = lattice
                for oldest in list(_smoothness_kept)[:-_MOST_KEPT]:
                    del _smoothness_kept[oldest]
    return lattice
