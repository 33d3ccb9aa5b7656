"""Kernels that filter rows of labels on a lattice: splat, blur and slice, compiled by numba for a width of rows.

Pixels hold their labels in quads, arrays [N, 4]; all quads lie one after the other in [Q * N, 4]. A row of a lattice
point holds one quad or two: more at a time miss the processor's caches more often than they save. The last lattice
point stands for all that do not exist; its row stays zero, so that blurring needs no branch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from deeplab_tf.crf.compiled_cache import F1, F2, I1, I2, WHOLE, built_once, compiled
from deeplab_tf.crf.compiled_rows import add, fill, load, load_quads, multiply, store, store_quads

# Pixels whose sums stay in the first-level cache while the corners are gone through, class by class.
_BLOCK = 512


class Filter(NamedTuple):
    """Kernels for rows of one width.

    Attributes:
        splat: (q [Q * N, 4], first row of q, rows [d + 1, N], weights [d + 1, N], values [M + 1, width], first class,
            one after the last, first point, one after the last): sets the points of some classes to what the pixels
            spread on them.
        blur: (values [M + 1, width], blurred [M + 1, width], before [M], after [M], first point, one after the last):
            convolves with (1/2, 1, 1/2) along an axis.
        slice: (rows, weights, values, scale [N], source [Q * N, 4], target [Q * N, 4], first row of both, first pixel,
            one after the last): adds to the source what the pixels read, times the scale. Source and target may be
            the same.
    """

    splat: Any
    blur: Any
    slice: Any


@built_once
def build_filter_kernels(width: int) -> Filter:
    """Returns the kernels for rows of 1, 4 or 8 labels, yet to be compiled; with 1, q is [N, 1]."""

    @compiled(numba.void(F2, WHOLE, I2, F2, F2, WHOLE, WHOLE, WHOLE, WHOLE), name=f"splat{width}")
    def splat(
        q: np.ndarray,
        first_row: int,
        rows: np.ndarray,
        weights: np.ndarray,
        values: np.ndarray,
        first_class: int,
        last_class: int,
        first: int,
        last: int,
    ) -> None:
        zero = fill(np.float32(0), width)
        for point in range(first, last):
            store(values, point, zero)
        num_pixels = rows.shape[1]
        for begin in range(0, num_pixels, _BLOCK):
            end = min(begin + _BLOCK, num_pixels)
            for k in range(first_class, last_class):
                row, weight = rows[k], weights[k]
                for n in range(begin, end):
                    point = row[n]
                    part = multiply(load_quads(q, first_row + n, num_pixels, width), weight[n])
                    store(values, point, add(load(values, point, width), part))

    @compiled(numba.void(F2, F2, I1, I1, WHOLE, WHOLE), name=f"blur{width}")
    def blur(
        values: np.ndarray, blurred: np.ndarray, before: np.ndarray, after: np.ndarray, first: int, last: int
    ) -> None:
        half = np.float32(0.5)
        for point in range(first, last):
            neighbours = add(load(values, before[point], width), load(values, after[point], width))
            store(blurred, point, add(load(values, point, width), multiply(neighbours, half)))

    @compiled(numba.void(I2, F2, F2, F1, F2, F2, WHOLE, WHOLE, WHOLE), name=f"slice{width}")
    def slice_(
        rows: np.ndarray,
        weights: np.ndarray,
        values: np.ndarray,
        scale: np.ndarray,
        source: np.ndarray,
        target: np.ndarray,
        first_row: int,
        first: int,
        last: int,
    ) -> None:
        num_pixels = rows.shape[1]
        sums = np.empty((_BLOCK, width), np.float32)
        for begin in range(first, last, _BLOCK):
            count = min(_BLOCK, last - begin)
            for k in range(0, rows.shape[0], 3):  # three corners or six
                row, row1, row2 = rows[k], rows[k + 1], rows[k + 2]
                weight, weight1, weight2 = weights[k], weights[k + 1], weights[k + 2]
                for c in range(count):
                    n = begin + c
                    part = multiply(load(values, row[n], width), weight[n])
                    part = add(part, multiply(load(values, row1[n], width), weight1[n]))
                    part = add(part, multiply(load(values, row2[n], width), weight2[n]))
                    if k > 0:
                        part = add(load(sums, c, width), part)
                    store(sums, c, part)
            for c in range(count):
                read = multiply(load(sums, c, width), scale[begin + c])
                row_of_pixel = first_row + begin + c
                given = load_quads(source, row_of_pixel, num_pixels, width)
                store_quads(target, row_of_pixel, num_pixels, add(given, read))

    return Filter(splat, blur, slice_)
