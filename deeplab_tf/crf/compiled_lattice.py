"""Kernels that build the permutohedral lattice around the pixels of an image, compiled by numba (Sec. 3.3).

Cells, ranks, weights and the numbers of the points are those of `permutohedral.build_filter`, in the same float32
steps. Every kernel works on a range of pixels or on one class of corners, and writes nothing that another one writes:
any number of threads may share the work, and none holds Python's lock.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from deeplab_tf.crf.compiled_cache import F2, FROZEN_U2, I1, L1, L2, WHOLE, compiled

# Pixels that are embedded, or looked up, together: what is known of them stays in the first-level cache.
_BLOCK = 256
# Added and subtracted, it rounds floats below 2^22 to the nearest integer, ties to even.
_ROUND = np.float32(1.5 * 2**23)
# A place of the hash table that holds no key. An eighth of the places are taken at most: a key is nearly always found
# where it is first looked for.
_EMPTY = -1
_SPARE_BITS = 3
_FIRST_BITS = 13
# Knuth's multiplier, 2^64 over the golden ratio.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@compiled(numba.void(F2, FROZEN_U2, WHOLE, L1, L1, WHOLE, WHOLE, L2, F2))
def embed(
    tables: np.ndarray,
    image: np.ndarray,
    width: int,
    strides: np.ndarray,
    lowest: np.ndarray,
    start: int,
    stop: int,
    keys: np.ndarray,
    weights: np.ndarray,
) -> None:
    """Places pixels in the lattice (Adams et al. 2010, Sec. 3).

    Args:
        tables: float32 [d, T]: scaled x, y and, with d = 5, red, green and blue, by their value.
        image: uint8 [N, 3]; not read where d is 2.
        width: W.
        strides: int64 [d], what a cell counts in the key along each coordinate.
        lowest: int64 [d], the lowest cell along each coordinate.
        start: the first pixel.
        stop: the one after the last.
        keys: int64 [d + 1, N], written: the key of the corner of each class.
        weights: float32 [d + 1, N], written: its barycentric weight.
    """
    dims = tables.shape[0]
    corners = dims + 1
    most = corners // 2
    down, up, one = np.float32(1 / corners), np.float32(corners), np.float32(1)
    scaled = np.empty((dims, _BLOCK), np.float32)
    cells = np.empty((corners, _BLOCK), np.float32)
    rests = np.empty((corners, _BLOCK), np.float32)
    ranks = np.empty((corners, _BLOCK), np.int32)
    gaps = np.empty((corners, _BLOCK), np.float32)
    total = np.empty(_BLOCK, np.float32)
    turns = np.empty(_BLOCK, np.int32)
    base = np.empty(_BLOCK, np.int64)
    for first in range(start, stop, _BLOCK):
        count = min(_BLOCK, stop - first)
        y = first // width
        x = first - y * width
        for n in range(count):
            scaled[0, n], scaled[1, n] = tables[0, x], tables[1, y]
            x += 1
            if x == width:
                x = 0
                y += 1
        for i in range(2, dims):
            table, row = tables[i], scaled[i]
            for n in range(count):
                row[n] = table[image[first + n, i - 2]]
        # Added up in this order, so that float32 rounds as it does in pydensecrf.
        for n in range(count):
            total[n] = 0
            turns[n] = 0
        for i in range(dims, -1, -1):
            row, cell, rest = scaled[max(i - 1, 0)], cells[i], rests[i]
            factor = np.float32(i)
            for n in range(count):
                elevated = total[n] - factor * row[n]
                rounded = (elevated * down + _ROUND) - _ROUND
                cell[n] = rounded
                rest[n] = elevated - rounded * up
                turns[n] += np.int32(rounded)
            if i > 0:
                for n in range(count):
                    total[n] += row[n]
        for n in range(count):
            turns[n] = min(max(turns[n], -most), most)
        for i in range(corners):
            rank = ranks[i]
            for n in range(count):
                rank[n] = turns[n]
        for i in range(corners):
            for j in range(i + 1, corners):
                one_rest, other_rest, one_rank, other_rank = rests[i], rests[j], ranks[i], ranks[j]
                for n in range(count):
                    later = np.int32(one_rest[n] < other_rest[n])
                    one_rank[n] += later
                    other_rank[n] += np.int32(1) - later
        for last in range(dims, 0, -1):
            for i in range(last):
                one_rest, other_rest = rests[i], rests[i + 1]
                for n in range(count):
                    a, b = one_rest[n], other_rest[n]
                    one_rest[n], other_rest[n] = max(a, b), min(a, b)
        for i in range(dims):
            gap, one_rest, other_rest = gaps[i], rests[i], rests[i + 1]
            for n in range(count):
                gap[n] = (one_rest[n] - other_rest[n]) * down
        gap, one_rest, other_rest = gaps[dims], rests[0], rests[dims]
        for n in range(count):
            gap[n] = one - (one_rest[n] - other_rest[n]) * down
        for n in range(count):
            base[n] = 0
        for i in range(dims):
            cell, stride, low = cells[i], strides[i], lowest[i]
            for n in range(count):
                base[n] += (np.int64(cell[n]) - low) * stride
        for k in range(corners):
            key, weight = keys[k, first : first + count], weights[k, first : first + count]
            for n in range(count):
                key[n] = base[n]
            for i in range(dims):
                rank, stride = ranks[i], strides[i]
                for n in range(count):
                    step = rank[n] + np.int32(k)
                    turned = np.int32(step >= corners) + np.int32(step >= 2 * corners) - np.int32(step < 0)
                    key[n] -= stride * turned
            for n in range(count):
                place = np.int32(dims - k) - turns[n]
                place += np.int32(corners) * (np.int32(place < 0) - np.int32(place >= corners))
                weight[n] = gaps[place, n]


@compiled(WHOLE(L1, I1, L1))
def number(keys: np.ndarray, ids: np.ndarray, different: np.ndarray) -> int:
    """Numbers equal keys in the order in which they are first met.

    A block of keys is first looked up without a branch, so that the processor waits for many places of the table at
    once; only those that are new or displaced are searched for one by one.

    Args:
        keys: int64 [N], N >= 1.
        ids: int32 [N], written.
        different: int64 [N], written: the different keys.

    Returns:
        How many there are.
    """
    bits = _FIRST_BITS
    table = np.full(1 << bits, _EMPTY, np.int32)
    different[0] = 0
    found = 0
    places = np.empty(_BLOCK, np.uint64)
    candidates = np.empty(_BLOCK, np.int32)
    for first in range(0, keys.size, _BLOCK):
        count = min(_BLOCK, keys.size - first)
        shift, mask = np.uint64(64 - bits), np.uint64((1 << bits) - 1)
        for c in range(count):
            places[c] = (np.uint64(keys[first + c]) * _MULTIPLIER) >> shift
        for c in range(count):
            candidates[c] = table[places[c]]
        for c in range(count):
            candidate = candidates[c]
            right = (different[max(candidate, 0)] == keys[first + c]) & (candidate >= 0)
            ids[first + c] = candidate if right else _EMPTY
        for c in range(count):
            if ids[first + c] >= 0:
                continue
            key, place = keys[first + c], places[c]
            while table[place] != _EMPTY and different[table[place]] != key:
                place = (place + np.uint64(1)) & mask
            if table[place] == _EMPTY:
                table[place] = found
                different[found] = key
                found += 1
            ids[first + c] = table[place]
        while found + _BLOCK > (1 << bits) >> _SPARE_BITS:
            bits += 1
            table = np.full(1 << bits, _EMPTY, np.int32)
            shift, mask = np.uint64(64 - bits), np.uint64((1 << bits) - 1)
            for i in range(found):
                place = (np.uint64(different[i]) * _MULTIPLIER) >> shift
                while table[place] != _EMPTY:
                    place = (place + np.uint64(1)) & mask
                table[place] = i
    return found


@compiled(numba.void(I1, L1, WHOLE, I1))
def place_pixels(ids: np.ndarray, order: np.ndarray, first: int, rows: np.ndarray) -> None:
    """Translates the numbers of `number` into those of lattice points.

    Args:
        ids: int32 [N].
        order: int64 [points], which of them is the first in the order of the keys, the second and so on.
        first: the number of the first point.
        rows: int32 [N], written.
    """
    numbers = np.empty(order.size, np.int32)
    for i in range(order.size):
        numbers[order[i]] = first + i
    for n in range(ids.size):
        rows[n] = numbers[ids[n]]


@compiled(numba.void(L1, L1, WHOLE, WHOLE, WHOLE, WHOLE, I1, I1))
def link(
    points: np.ndarray,
    following: np.ndarray,
    step: int,
    first: int,
    following_first: int,
    none: int,
    after: np.ndarray,
    before: np.ndarray,
) -> None:
    """Finds the successor along one axis of every point of a class, in the class that follows.

    Both ascend, so they are merged; without a branch, because half of the points have no successor.

    Args:
        points: int64 [points], the keys of the class, ascending.
        following: int64 [points of the other], likewise.
        step: what to add to a key for its successor's.
        first: the number of the first point.
        following_first: that of the first of the other class.
        none: the number that stands for no point.
        after: int32 [M], written for the points: their successors.
        before: int32 [M], written for those of the other class: their predecessors.
    """
    i: Any = 0
    j: Any = 0
    while i < points.size and j < following.size:
        wanted, key = points[i] + step, following[j]
        lower, equal = np.int64(key < wanted), np.int64(key == wanted)
        after[first + i] = none + (following_first + j - none) * equal
        before[following_first + j] = none + (first + i - none) * equal
        i += 1 - lower
        j += lower | equal
    after[first + i : first + points.size] = none
    before[following_first + j : following_first + following.size] = none
