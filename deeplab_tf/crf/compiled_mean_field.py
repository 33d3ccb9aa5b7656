"""Kernels of the mean field around the filtering: compiled by numba, on a range of pixels each.

The labels stand in quads, arrays [N, 4], and all quads lie one after the other in [Q * N, 4].
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from deeplab_tf.crf.compiled_cache import F1, F2, FROZEN_F2, I1, WHOLE, compiled
from deeplab_tf.crf.compiled_rows import (
    add,
    exp,
    fill,
    largest_of_quads,
    load_run,
    maximum,
    minus,
    over,
    repeat,
    store_run,
    times,
    totals_of_quads,
)

# log(0) has to be finite: a label given probability 0 can still be won back, at a cost of 46.
_SMALLEST_PROBABILITY = np.float32(1e-20)
# Of a label that does not exist and fills up a quad.
_NONE = np.float32(1e-30)


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


@compiled(numba.void(FROZEN_F2, I1, F2, F1, WHOLE, WHOLE))
def pick(probabilities: np.ndarray, labels: np.ndarray, q: np.ndarray, rest: np.ndarray, first: int, last: int) -> None:
    """Writes the probabilities of some labels, and what the others have together, as a distribution.

    Args:
        probabilities: float32 [N, K].
        labels: int32 [L].
        q: float32 [Q * N, 4], written.
        rest: float32 [N], written.
        first: the first pixel.
        last: the one after the last.
    """
    num_pixels, num_classes = probabilities.shape
    quads = q.shape[0] // num_pixels
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
        for i in range(quads * 4):
            value = _NONE
            if i < labels.size:
                value = max(probabilities[n, labels[i]], _SMALLEST_PROBABILITY) * factor
            q[i // 4 * num_pixels + n, i % 4] = value


def _build_softmax(width: int) -> Any:
    """Returns what turns the logits of width / 4 pixels, from a pixel on, into probabilities."""

    @numba.njit(nogil=True, error_model="numpy")
    def softmax(q: np.ndarray, quads: int, rest: np.ndarray, with_rest: int, pixel: int) -> None:
        num_pixels = rest.size
        zero = fill(np.float32(0), width)
        top = load_run(q, pixel, width)
        for quad in range(1, quads):
            top = maximum(top, load_run(q, pixel + quad * num_pixels, width))
        top = largest_of_quads(top)
        whole = zero
        for quad in range(quads):
            e = exp(minus(load_run(q, pixel + quad * num_pixels, width), top))
            store_run(q, pixel + quad * num_pixels, e)
            whole = add(whole, e)
        whole = totals_of_quads(whole)
        if with_rest:
            whole = add(whole, times(repeat(rest, pixel, width), exp(minus(zero, top))))
        factor = over(fill(np.float32(1), width), whole)
        for quad in range(quads):
            row = pixel + quad * num_pixels
            store_run(q, row, times(load_run(q, row, width), factor))

    return softmax


# The same operations on as many pixels as fill the widest vector, and on one of those that are left: the same bits.
_PIXELS = 4
_softmax_of_several, _softmax_of_one = _build_softmax(4 * _PIXELS), _build_softmax(4)


@compiled(numba.void(F2, F1, WHOLE, WHOLE, WHOLE))
def normalize(q: np.ndarray, rest: np.ndarray, with_rest: int, first: int, last: int) -> None:
    """Turns logits into probabilities, in place.

    Args:
        q: float32 [Q * N, 4].
        rest: float32 [N], what the labels left out have together.
        with_rest: whether it takes part.
        first: the first pixel.
        last: the one after the last.
    """
    quads = q.shape[0] // rest.size
    even = last - (last - first) % _PIXELS
    for pixel in range(first, even, _PIXELS):
        _softmax_of_several(q, quads, rest, with_rest, pixel)
    for pixel in range(even, last):
        _softmax_of_one(q, quads, rest, with_rest, pixel)


@compiled(numba.void(F2, I1, F2, WHOLE, WHOLE))
def spread(q: np.ndarray, labels: np.ndarray, refined: np.ndarray, first: int, last: int) -> None:
    """Writes the probabilities of all classes: the reverse of `pick`.

    Args:
        q: float32 [Q * N, 4].
        labels: int32 [L].
        refined: float32 [N, K], written.
        first: the first pixel.
        last: the one after the last.
    """
    num_pixels = refined.shape[0]
    for n in range(first, last):
        refined[n, :] = 0
        for i in range(labels.size):
            refined[n, labels[i]] = q[i // 4 * num_pixels + n, i % 4]
