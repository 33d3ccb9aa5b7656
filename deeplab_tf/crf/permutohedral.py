"""Gaussian filtering in high dimensions on the permutohedral lattice, in TensorFlow ops (Sec. 3.3).

Computes out_i = sum_j exp(-|f_i - f_j|^2 / 2) v_j for all i in time linear in the number of points, up to the
interpolation error of the lattice (Adams, Baek and Davis 2010), in three steps:

    splat   spread each value over the d + 1 corners of the simplex around its feature, by barycentric weights
    blur    convolve with (1/2, 1, 1/2) along each of the d + 1 lattice axes in turn
    slice   read the blurred values back with the same weights

Each step is linear, and the same for every channel and every mean-field update, so each is stored once as a sparse
matrix. Rounding, ranks, order of the axes and scale are those of pydensecrf: the two agree to float32 rounding.

A lattice point is d + 1 integers with sum 0 that leave the same remainder modulo d + 1, its class. The simplex around
a feature has one corner of each class, and a step along an axis leads from class k to class k + 1. So equal corners
and neighbours need only be looked for inside known classes: d + 1 small searches, at the same time, for one large one.

Points of a class are numbered in the order of their keys. A step adds the same to every key, so the successors of
consecutive points are found, and later read, in order: the search and the blur walk through memory instead of jumping.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

NORMALIZATIONS = ("none", "symmetric", "after")

_KEY_BITS = 62
# Further out float32 places a feature inside its simplex to worse than 1/60 of an edge.
_LARGEST_COORDINATE = 2.0**17


class SparseMatrix(NamedTuple):
    """A sparse matrix as a list of entries, which TensorFlow multiplies without any preparation.

    Attributes:
        indices: int32 [E, 2], row and column of each entry, in any order.
        values: float32 [E].
        shape: int64 [2].
    """

    indices: tf.Tensor
    values: tf.Tensor
    shape: tf.Tensor


class GaussianFilter(NamedTuple):
    """A filter around N features; M is the number of lattice points.

    Attributes:
        splat: matrices [M, N], to be added up.
        blurs: for each axis, in the order of blurring, [M, M].
        slice: matrices [M, N], to be transposed and added up.
        num_points: int32, M.
        largest_row_sum: float32, the most that filtering ones gives a feature.
    """

    splat: tuple[SparseMatrix, ...]
    blurs: tuple[SparseMatrix, ...]
    slice: tuple[SparseMatrix, ...]
    num_points: tf.Tensor
    largest_row_sum: tf.Tensor


def build_filter(features: Sequence[tf.Tensor], normalization: str = "none") -> GaussianFilter:
    """Builds the filter around some features. It is a constant in gradients.

    The lattice consists of the corners of all simplices that hold a feature, and of no other points: values are not
    blurred across others.

    Args:
        features: 1 to 6 tensors float32 [N], one for each dimension, in standard deviations of the Gaussian.
        normalization: with k_ij the Gaussian between two features and n_i the sum of k_ij over all j, "none"
            filters with k_ij, "symmetric" with k_ij / sqrt(n_i n_j) and "after" with k_ij / n_i.

    Returns:
        The filter, for `apply_filter`.

    Raises:
        ValueError: another number of dimensions or an unknown normalization.
        tf.errors.InvalidArgumentError: when run, features that are not finite, or so far apart that float32 or a
            key of 62 bits cannot tell their simplices apart.
    """
    if not 1 <= len(features) <= 6:
        raise ValueError(f"a lattice takes features of 1 to 6 dimensions, got {len(features)}.")
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization must be one of {', '.join(NORMALIZATIONS)}, got {normalization!r}.")
    cells, order, weights = _embed([tf.stop_gradient(feature) for feature in features])
    keys, steps = _pack_keys(cells, order)
    points, places = zip(*[_number_points(key) for key in keys], strict=True)
    sizes = [tf.size(point) for point in points]
    starts = tf.unstack(tf.cumsum(tf.stack(sizes), exclusive=True))
    blurs = tuple(_build_blur(successors) for successors in _find_successors(points, sizes, starts, steps))

    num_pixels, num_points = tf.size(features[0]), tf.add_n(sizes)
    corners = [place + start for place, start in zip(places, starts, strict=True)]
    splat = _build_splat(corners, weights, num_points)
    unscaled = GaussianFilter(splat, blurs, splat, num_points, largest_row_sum=tf.ones([]))
    # Positive, because every feature has a part in itself.
    norm = apply_filter(unscaled, tf.ones([num_pixels, 1]))[:, 0]
    if normalization == "none":
        # A constant of the lattice, which cancels in the normalised filters.
        before, after = tf.ones([1]), tf.fill([1], 1 / (1 + 2.0 ** -len(features)))
        sums = after * norm
    elif normalization == "symmetric":
        before = after = tf.math.rsqrt(norm)
        sums = after * apply_filter(unscaled, before[:, None])[:, 0]
    else:
        before, after, sums = tf.ones([1]), 1 / norm, tf.ones([1])
    return GaussianFilter(_scale(splat, before), blurs, _scale(splat, after), num_points, tf.reduce_max(sums))


def apply_filter(gaussian: GaussianFilter, values: tf.Tensor) -> tf.Tensor:
    """Filters values with the Gaussian. Differentiable with respect to the values.

    Args:
        gaussian: around N features.
        values: float32 [N, C]. Eight channels take less time than three; with 32 and more, TensorFlow goes
            another way and takes several times as long for each.

    Returns:
        float32 [N, C].
    """
    return tf.add_n(filter_in_parts(gaussian, values, 1.0))


def filter_in_parts(gaussian: GaussianFilter, values: tf.Tensor, weight: tf.Tensor | float) -> list[tf.Tensor]:
    """Filters as `apply_filter`, times a weight; the parts, float32 [N, C], are yet to be added up."""
    values = tf.add_n([_multiply(part, values) for part in gaussian.splat])  # [M, C]
    for blur in gaussian.blurs:
        values = _multiply(blur, values)
    values *= weight
    return [_multiply(part, values, transpose=True) for part in gaussian.slice]  # [N, C]


def check_extents(extents: Sequence[float]) -> None:
    """Refuses features that a lattice could not hold, before anything is computed.

    Args:
        extents: for each dimension the largest value; the smallest is 0.

    Raises:
        ValueError: too far apart for float32, or for keys of 62 bits.
    """
    num_corners = len(extents) + 1
    scaled = [extent * scale for extent, scale in zip(extents, axis_scales(len(extents)), strict=True)]
    highest = [sum(scaled[i:]) for i in range(len(extents))]
    lowest = [0.0] + [i * scaled[i - 1] for i in range(1, num_corners)]
    farthest = max(highest + lowest)
    # One cell more for rounding at either end, and what `_pack_keys` adds.
    bits = sum(math.log2((high + low) / num_corners + 7) for high, low in zip(highest, lowest, strict=False))
    if not farthest <= _LARGEST_COORDINATE:
        raise ValueError(f"features too far apart: lattice coordinates up to {farthest:.3g}, the most is 2^17.")
    if bits > _KEY_BITS:
        raise ValueError(f"features too far apart: keys of {bits:.1f} bits, the most is {_KEY_BITS}.")


def _multiply(matrix: SparseMatrix, values: tf.Tensor, transpose: bool = False) -> tf.Tensor:
    return tf.raw_ops.SparseTensorDenseMatMul(
        a_indices=matrix.indices, a_values=matrix.values, a_shape=matrix.shape, b=values, adjoint_a=transpose
    )


def _build_splat(
    corners: Sequence[tf.Tensor], weights: Sequence[tf.Tensor], num_points: tf.Tensor
) -> tuple[SparseMatrix, ...]:
    """Builds two matrices [M, N] from each class's corners int32 [N] and weights float32 [N].

    Two, because TensorFlow's sparse product uses one thread.
    """
    num_pixels, half = tf.size(corners[0]), len(corners) // 2
    parts = []
    for part in (slice(None, half), slice(half, None)):
        rows = tf.concat(corners[part], 0)
        columns = tf.tile(tf.range(num_pixels), [len(corners[part])])
        parts.append(_build_matrix(rows, columns, tf.concat(weights[part], 0), [num_points, num_pixels]))
    return tuple(parts)


def _scale(parts: tuple[SparseMatrix, ...], factors: tf.Tensor) -> tuple[SparseMatrix, ...]:
    """Multiplies the columns of matrices of `_build_splat` with float32 [N] or [1]."""
    return tuple(
        part._replace(values=tf.reshape(tf.reshape(part.values, [-1, part.shape[1]]) * factors, [-1])) for part in parts
    )


def _build_blur(successors: tf.Tensor) -> SparseMatrix:
    """Builds the convolution with (1/2, 1, 1/2) along an axis from each point's successor, int32 [M], or -1."""
    num_points = tf.size(successors)
    own = tf.range(num_points)
    linked = tf.cast(tf.where(successors >= 0), tf.int32)  # [links, 1]
    predecessors = tf.tensor_scatter_nd_update(
        tf.fill([num_points], -1), tf.gather(successors, linked), tf.squeeze(linked, 1)
    )
    # Row by row, which is how the product walks through both its input and its output.
    columns = tf.reshape(tf.stack([predecessors, own, successors], 1), [-1])
    entries = tf.cast(tf.where(columns >= 0)[:, 0], tf.int32)
    rows = entries // 3
    values = tf.gather(tf.constant([0.5, 1.0, 0.5]), entries - 3 * rows)
    return _build_matrix(rows, tf.gather(columns, entries), values, [num_points, num_points])


def _build_matrix(rows: tf.Tensor, columns: tf.Tensor, values: tf.Tensor, shape: list[tf.Tensor]) -> SparseMatrix:
    # [E, 2] is the memory layout of complex numbers, which TensorFlow builds three times as fast as a stack.
    pairs = tf.bitcast(tf.complex(tf.bitcast(rows, tf.float32), tf.bitcast(columns, tf.float32)), tf.int32)
    return SparseMatrix(pairs, values, tf.cast(tf.stack(shape), tf.int64))


def _embed(features: Sequence[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor, list[tf.Tensor]]:
    """Places features in the lattice (Adams et al. 2010, Sec. 3).

    Returns:
        cells: d + 1 tensors float32 [N], whole numbers: coordinates of the next point of class 0, by d + 1.
        order: int32 [N], the row of `_corner_offsets` that turns this point into the corners of the simplex.
        barycentric: d + 1 tensors float32 [N], the weight of the corner of each class; they sum to 1.
    """
    dims = len(features)
    num_corners = dims + 1
    most = num_corners // 2  # the sum of the cells is -most..most
    scaled = [feature * np.float32(scale) for feature, scale in zip(features, axis_scales(dims), strict=True)]
    # Added up in this order, so that float32 rounds as it does in pydensecrf.
    total = tf.zeros_like(scaled[0])
    elevated: list[tf.Tensor] = []
    for i in reversed(range(dims)):
        elevated.insert(0, total - np.float32(i + 1) * scaled[i])
        total += scaled[i]
    elevated.insert(0, total)
    farthest = tf.reduce_max(tf.stack([tf.reduce_max(tf.abs(coordinate)) for coordinate in elevated]))
    # Written so that a NaN fails.
    _check(farthest <= _LARGEST_COORDINATE, "features too far apart for float32, or not finite", farthest)

    cells = [tf.round(coordinate * np.float32(1 / num_corners)) for coordinate in elevated]
    rests = [coordinate - cell * np.float32(num_corners) for coordinate, cell in zip(elevated, cells, strict=True)]
    # Off the plane by this many steps: the corners come in the same cyclic order, but begin elsewhere.
    turn = tf.clip_by_value(tf.cast(tf.add_n(cells), tf.int32), -most, most)
    # Lehmer code of the order of the rests: the largest first, of equal ones the later, as pydensecrf ranks them.
    code = tf.zeros_like(turn)
    for i in range(dims):
        code += math.factorial(dims - i) * tf.add_n([tf.cast(rests[i] < rest, tf.int32) for rest in rests[i + 1 :]])

    ranked = list(rests)
    for last in range(dims, 0, -1):
        for i in range(last):
            ranked[i : i + 2] = tf.maximum(ranked[i], ranked[i + 1]), tf.minimum(ranked[i], ranked[i + 1])
    gaps = [(ranked[i] - ranked[i + 1]) * np.float32(1 / num_corners) for i in range(dims)]
    gaps.append(1 - (ranked[0] - ranked[-1]) * np.float32(1 / num_corners))
    # Class k has the gap behind rank dims - k - turn, modulo the corners: laid out so that no modulo is needed.
    laid_out = tf.concat([gaps[rank % num_corners] for rank in range(-most, num_corners + most)], 0)
    num_pixels = tf.size(total)
    first = (dims + most - turn) * num_pixels + tf.range(num_pixels)
    barycentric = [tf.gather(laid_out, first - k * num_pixels) for k in range(num_corners)]
    return cells, code * (num_corners + 2 * most) + most + turn, barycentric


def axis_scales(dims: int) -> list[float]:
    """Returns what makes the lattice's own blur, and its interpolation, one standard deviation wide."""
    deviation = float(np.float32(math.sqrt(2 / 3) * (dims + 1)))
    return [deviation / math.sqrt((i + 1) * (i + 2)) for i in range(dims)]


def _corner_offsets(dims: int) -> np.ndarray:
    """Steps from the next point of class 0 to the corners of the simplex.

    Returns:
        int64 [d + 1 factorial, d + 1 + 2 (d + 1) // 2, d]: for each order of the rests, and for the sum of class
        and turn, what to subtract from the first d cells.
    """
    num_corners = dims + 1
    most = num_corners // 2
    ranks = np.empty((math.factorial(num_corners), num_corners), np.int64)
    for code, row in enumerate(ranks):
        free = list(range(num_corners))
        for i in range(num_corners):
            row[i] = free.pop(code // math.factorial(dims - i) % (num_corners - i))
    shifts = np.arange(-most, num_corners + most)
    return (ranks[:, None, :dims] + shifts[:, None]) // num_corners


def _pack_keys(cells: list[tf.Tensor], order: tf.Tensor) -> tuple[list[tf.Tensor], list[list[tf.Tensor]]]:
    """Numbers the lattice points of a class.

    Returns:
        keys: for each class int64 [N], the corners of that class.
        steps: for each class and axis int64, what to add to the key of a point for its successor's in the next class.
    """
    dims = len(cells) - 1
    cells = cells[:dims]  # the last one follows from the others
    # Corners are up to 1 away from the cell, and their neighbours another 1.
    lowest = [tf.reduce_min(cell) - 2 for cell in cells]
    lengths = tf.stack([tf.reduce_max(cell) + 3 - low for cell, low in zip(cells, lowest, strict=True)])
    bits = tf.reduce_sum(tf.math.log(lengths)) / math.log(2)
    _check(bits <= _KEY_BITS, f"features too far apart for keys of {_KEY_BITS} bits", bits)
    strides = tf.math.cumprod(tf.cast(lengths, tf.int64), exclusive=True)  # [d]
    per_axis = tf.unstack(strides)
    base = tf.add_n([tf.cast(cell - low, tf.int64) * s for cell, low, s in zip(cells, lowest, per_axis, strict=True)])
    offsets = tf.reshape(tf.reduce_sum(tf.constant(_corner_offsets(dims)) * strides, -1), [-1])
    keys = [base - tf.gather(offsets, order + k) for k in range(dims + 1)]
    down = [-stride for stride in per_axis] + [tf.zeros([], tf.int64)]
    # From the last class back to class 0, every cell is one further.
    steps = [down] * dims + [[step + tf.reduce_sum(strides) for step in down]]
    return keys, steps


def _number_points(keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Numbers the points of a class by their keys.

    Args:
        keys: int64 [N].

    Returns:
        points: int64 [points], the different keys in ascending order.
        places: int32 [N], the number of each key.
    """
    points, places = tf.unique(keys)
    order = tf.argsort(points)
    return tf.gather(points, order), tf.gather(tf.math.invert_permutation(order), places)


def _find_successors(
    points: Sequence[tf.Tensor], sizes: Sequence[tf.Tensor], starts: Sequence[tf.Tensor], steps: list[list[tf.Tensor]]
) -> list[tf.Tensor]:
    """Looks up the next point along each axis.

    Args:
        points: for each class int64 [its points], their keys, ascending.
        sizes: for each class int32, its number of points.
        starts: for each class int32, the number of its first point.
        steps: of `_pack_keys`.

    Returns:
        For each axis int32 [M], the number of the next point, -1 where the lattice has none.
    """
    num_classes = len(points)
    successors = []
    for k in range(num_classes):
        following = (k + 1) % num_classes
        for step in steps[k]:
            wanted = points[k] + step
            places = tf.minimum(tf.searchsorted(points[following], wanted), sizes[following] - 1)
            found = tf.equal(tf.gather(points[following], places), wanted)
            successors.append(tf.where(found, places + starts[following], -1))
    return [tf.concat(successors[axis::num_classes], 0) for axis in range(num_classes)]


def _check(condition: tf.Tensor, complaint: str, value: tf.Tensor) -> None:
    tf.debugging.Assert(condition, [f"the lattice cannot be built, {complaint}:", value])
