"""Kernels of the mean field around the filtering: compiled by numba, on a range of pixels each.

The labels stand in groups of `width`, four or eight, and a group is an array [N, width]. All groups lie one after the
other in [G * N, width].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from deeplab_tf.crf.compiled_cache import F1, F2, FROZEN_F2, I1, WHOLE, built_once, compiled
from deeplab_tf.crf.compiled_rows import exp, fill, largest, load, maximum, multiply, store, subtract, total

# log(0) has to be finite: a label given probability 0 can still be won back, at a cost of 46.
_SMALLEST_PROBABILITY = np.float32(1e-20)
# Of a label that does not exist and fills up a group.
_NONE = np.float32(1e-30)


class MeanField(NamedTuple):
    """Kernels for groups of one width.

    Attributes:
        pick: (probabilities [N, K], labels [L], q [G * N, width], rest [N], first pixel, one after the last): writes
            the probabilities of the labels, and what the others have together, as a distribution.
        normalize: (q [G * N, width], rest [N], whether the rest takes part, first pixel, one after the last): from
            logits to probabilities, in place.
        spread: (q [G * N, width], labels [L], refined [N, K], first pixel, one after the last): the reverse of pick.
    """

    pick: Any
    normalize: Any
    spread: Any


@compiled(numba.boolean(FROZEN_F2))
def check(probabilities: np.ndarray) -> bool:
    """Says whether all of float32 [N, K] are >= 0 and sum to 1 within 0.01."""
    right: Any = True
    num_classes = probabilities.shape[1]
    for n in range(probabilities.shape[0]):
        even = odd = lowest = np.float32(0)
        for k in range(0, num_classes - 1, 2):
            one, other = probabilities[n, k], probabilities[n, k + 1]
            even += one
            odd += other
            lowest = min(lowest, min(one, other))
        if num_classes % 2:
            even += probabilities[n, num_classes - 1]
            lowest = min(lowest, probabilities[n, num_classes - 1])
        # Written so that a NaN fails.
        right &= (lowest >= 0) & (abs(even + odd - np.float32(1)) < np.float32(1e-2))
    return right


@built_once
def build_mean_field_kernels(width: int) -> MeanField:
    """Returns the kernels for groups of 4 or 8 labels, yet to be compiled."""

    @compiled(numba.void(FROZEN_F2, I1, F2, F1, WHOLE, WHOLE), name=f"pick{width}")
    def pick(
        probabilities: np.ndarray, labels: np.ndarray, q: np.ndarray, rest: np.ndarray, first: int, last: int
    ) -> None:
        num_pixels, num_classes = probabilities.shape
        groups = q.shape[0] // num_pixels
        left_out = np.ones(num_classes, np.float32)
        for label in labels:
            left_out[label] = 0
        for n in range(first, last):
            others = np.float32(0)
            if labels.size < num_classes:
                for k in range(num_classes):
                    others += left_out[k] * probabilities[n, k]
            whole = others
            for label in labels:
                whole += max(probabilities[n, label], _SMALLEST_PROBABILITY)
            factor = np.float32(1) / whole
            rest[n] = others * factor
            for i in range(groups * width):
                value = _NONE
                if i < labels.size:
                    value = max(probabilities[n, labels[i]], _SMALLEST_PROBABILITY) * factor
                q[i // width * num_pixels + n, i % width] = value

    @compiled(numba.void(F2, F1, WHOLE, WHOLE, WHOLE), name=f"normalize{width}")
    def normalize(q: np.ndarray, rest: np.ndarray, with_rest: int, first: int, last: int) -> None:
        num_pixels = rest.size
        for n in range(first, last):
            top = load(q, n, width)
            for row in range(n + num_pixels, q.shape[0], num_pixels):
                top = maximum(top, load(q, row, width))
            most = largest(top)
            whole = np.float32(0)
            if with_rest:
                whole = rest[n] * largest(exp(fill(-most, 4)))
            for row in range(n, q.shape[0], num_pixels):
                e = exp(subtract(load(q, row, width), most))
                store(q, row, e)
                whole += total(e)
            factor = np.float32(1) / whole
            for row in range(n, q.shape[0], num_pixels):
                store(q, row, multiply(load(q, row, width), factor))

    @compiled(numba.void(F2, I1, F2, WHOLE, WHOLE), name=f"spread{width}")
    def spread(q: np.ndarray, labels: np.ndarray, refined: np.ndarray, first: int, last: int) -> None:
        num_pixels = refined.shape[0]
        for n in range(first, last):
            refined[n, :] = 0
            for i in range(labels.size):
                refined[n, labels[i]] = q[i // width * num_pixels + n, i % width]

    return MeanField(pick, normalize, spread)
