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
            labels = _choose_labels(flat, min_probability, total_weight)
            refined.append(compiled.update(flat, labels, kernels, int(params.iterations), team))
    return [one.reshape(probabilities.shape) for one in refined]


def _choose_labels(probabilities: np.ndarray, min_probability: float | None, total_weight: float) -> np.ndarray:
    """Returns the labels that the TensorFlow graph would keep, int32, of float32 [N, K]."""
    num_classes = probabilities.shape[1]
    if min_probability == 0:
        return np.arange(num_classes, dtype=np.int32)
    choose = _trace_choice(num_classes, min_probability is None)
    return choose(probabilities, np.float32(total_weight), np.float32(min_probability or 0)).numpy()


@functools.lru_cache(maxsize=16)
def _trace_choice(num_classes: int, takes_proven_limit: bool) -> Any:
    """Returns a tf.function from float32 [N, K], the total weight and min_probability to labels, on the processor."""
    import tensorflow as tf

    from deeplab_tf.crf.mean_field import choose_labels

    def choose(probabilities: tf.Tensor, total_weight: tf.Tensor, min_probability: tf.Tensor) -> tf.Tensor:
        with tf.device("CPU"):
            by_class = tf.transpose(probabilities)
            by_class /= tf.reduce_sum(by_class, axis=0)
            return choose_labels(by_class, total_weight, None if takes_proven_limit else min_probability)

    signature = [tf.TensorSpec([None, num_classes]), *2 * [tf.TensorSpec([], tf.float32)]]
    return tf.function(choose, input_signature=signature, autograph=False)


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
