"""The dense CRF of one image in compiled kernels: lattice and updates of the TensorFlow ops, several times as fast.

Arrays in, arrays out, on any number of threads with equal bits. `with_kernels` chooses the labels; `compiled_lattice`,
`compiled_filter`, `compiled_mean_field` and `compiled_choice` hold the kernels. The work on an image goes phase by
phase; in each, threads write different points or pixels, and every sum has one order.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from deeplab_tf.crf.compiled_cache import compile_kernels
from deeplab_tf.crf.compiled_choice import PLACES, sum_tails, survey
from deeplab_tf.crf.compiled_filter import Filter, build_filter_kernels
from deeplab_tf.crf.compiled_lattice import embed, link, number, place_pixels
from deeplab_tf.crf.compiled_mean_field import check, normalize, pick, spread
from deeplab_tf.crf.compiled_team import Team
from deeplab_tf.crf.permutohedral import axis_scales

# Pixels that are sliced and normalised one after the other: they stay in the second-level cache meanwhile.
_BLOCK = 8192
# Points of a lattice up to which a row holds two quads of labels; the values of more miss the caches more often.
_MOST_FOR_TWO = 2**18


class Lattice(NamedTuple):
    """A permutohedral lattice around N pixels with M points, in the order of their classes, then of their keys.

    Attributes:
        rows: int32 [d + 1, N], the corner of each class.
        weights: float32 [d + 1, N], what a pixel gives it; in "symmetric" also what it reads.
        scale: float32 [N], what is read is multiplied with this.
        starts: the first point of each class, and M.
        before: int32 [d + 1, M], the predecessor of each point along each axis; M for none.
        after: int32 [d + 1, M], the successor.
        largest_row_sum: the most that filtering ones gives a pixel.
    """

    rows: np.ndarray
    weights: np.ndarray
    scale: np.ndarray
    starts: list[int]
    before: np.ndarray
    after: np.ndarray
    largest_row_sum: float

    @property
    def num_points(self) -> int:
        """M."""
        return self.starts[-1]


class Survey(NamedTuple):
    """What the choice of labels depends on.

    Attributes:
        factors: float32 [N], one over the sums of the probabilities.
        highest: float32 [K], the most that a pixel gives each label.
        is_likeliest: bool [K], whether it is the likeliest of some pixel.
    """

    factors: np.ndarray
    highest: np.ndarray
    is_likeliest: np.ndarray


def are_distributions(probabilities: np.ndarray) -> bool:
    """Says whether all of float32 [N, K], C-contiguous, are >= 0 and sum to 1 within 0.01."""
    compile_kernels([check])
    return check(probabilities)


def survey_labels(probabilities: np.ndarray, team: Team) -> Survey:
    """Finds out what the choice of labels depends on, of float32 [N, K]."""
    compile_kernels([survey, sum_tails])
    num_pixels, num_classes = probabilities.shape
    factors = np.empty(num_pixels, np.float32)
    parts = team.split(num_pixels, _BLOCK)
    highest = np.zeros((len(parts), num_classes), np.float32)
    is_likeliest = np.zeros((len(parts), num_classes), np.uint8)

    def work(part: int) -> None:
        survey(probabilities, *parts[part], factors, highest[part], is_likeliest[part])

    team.run([functools.partial(work, part) for part in range(len(parts))])
    return Survey(factors, highest.max(axis=0), is_likeliest.max(axis=0) > 0)


def sum_of_tails(probabilities: np.ndarray, of: Survey, order: np.ndarray, needed: int, team: Team) -> np.ndarray:
    """Returns what `pruning.keep_labels` calls together, of float32 [N, K], for places that are `PLACES` labels apart.

    Args:
        probabilities: float32 [N, K].
        of: what `survey_labels` found in them.
        order: int32 [K], the labels.
        needed: so many of the first do not matter.
        team: who does it.
    """
    parts = team.split(len(probabilities), _BLOCK)
    together = np.zeros((len(parts), -(-order.size // PLACES)), np.float32)
    order = np.require(order, np.int32, ["C", "W"])

    def work(part: int) -> None:
        sum_tails(probabilities, of.factors, order, needed // PLACES, *parts[part], together[part])

    team.run([functools.partial(work, part) for part in range(len(parts))])
    return together.max(axis=0)


def build_bilateral(
    image: np.ndarray, sigma_alpha: float, sigma_beta: float, normalization: str, team: Team
) -> Lattice:
    """Builds the lattice of the bilateral kernel around the pixels of an image uint8 [H, W, 3]."""
    height, width = image.shape[:2]
    levels = np.arange(256, dtype=np.float32) / np.float32(sigma_beta)
    features = [*_positions(height, width, sigma_alpha), levels, levels, levels]
    return _build(features, height, width, image.reshape(-1, 3), normalization, team)


def build_smoothness(height: int, width: int, sigma_gamma: float, normalization: str, team: Team) -> Lattice:
    """Builds the lattice of the smoothness kernel around the pixels of an image of some size."""
    no_colours = np.empty((0, 3), np.uint8)
    return _build(_positions(height, width, sigma_gamma), height, width, no_colours, normalization, team)


def update(
    probabilities: np.ndarray,
    labels: np.ndarray,
    kernels: Sequence[tuple[Lattice, float]],
    iterations: int,
    team: Team,
) -> np.ndarray:
    """Does mean-field updates, as `mean_field.update` with the same labels.

    Args:
        probabilities: float32 [N, K], C-contiguous, summing to 1.
        labels: int32 [L], the classes that take part; the others share a label that earns nothing, and get 0.
        kernels: lattices around the N pixels and the weight of each, >= 0.
        iterations: updates, >= 1.
        team: who does it.

    Returns:
        float32 [N, K], summing to 1.
    """
    num_pixels, num_classes = probabilities.shape
    lattices = [lattice for lattice, _ in kernels]
    num_quads = -(-labels.size // 4)
    groups = _group(num_quads, max(lattice.num_points for lattice in lattices))
    filters = {width: build_filter_kernels(width) for _, width in groups}
    compile_kernels([pick, normalize, spread, *itertools.chain(*filters.values())])
    labels = np.require(labels, np.int32, ["C", "W"])
    parts = team.split(num_pixels, _BLOCK)
    q = np.empty((num_quads * num_pixels, 4), np.float32)
    log_p = np.empty_like(q)
    rest = np.empty(num_pixels, np.float32)

    def begin(first: int, last: int) -> None:
        pick(probabilities, labels, q, rest, first, last)
        for row in range(0, len(q), num_pixels):
            np.log(q[row + first : row + last], out=log_p[row + first : row + last])

    _share(team, begin, parts)
    scales = [lattice.scale * np.float32(weight) for lattice, weight in kernels]
    buffers = {width: _make_buffers(lattices, width) for width in filters}
    for iteration in range(iterations):
        with_rest = int(iteration < iterations - 1 and labels.size < num_classes)
        for quad, width in groups:
            filter_, first_row = filters[width], quad * num_pixels
            values = _blur(lattices, q, first_row, buffers[width], filter_, team)

            def finish(first: int, last: int) -> None:
                for start, stop in _blocks(first, last):
                    source = log_p
                    for lattice, scale, of_points in zip(lattices, scales, values, strict=True):  # noqa: B023
                        where = (source, q, first_row, start, stop)  # noqa: B023
                        filter_.slice(lattice.rows, lattice.weights, of_points, scale, *where)  # noqa: B023
                        source = q
                    if quad == groups[-1][0]:  # noqa: B023
                        normalize(q, rest, with_rest, start, stop)  # noqa: B023

            _share(team, finish, parts)
    refined = np.empty((num_pixels, num_classes), np.float32)
    _share(team, functools.partial(spread, q, labels, refined), parts)
    return refined


def _group(num_quads: int, num_points: int) -> list[tuple[int, int]]:
    """Returns the first quad and the width of each group of labels that are filtered together."""
    together = 2 if num_points <= _MOST_FOR_TWO else 1
    return [(quad, 4 * min(together, num_quads - quad)) for quad in range(0, num_quads, together)]


def _make_buffers(lattices: Sequence[Lattice], width: int) -> list[tuple[np.ndarray, ...]]:
    return [tuple(np.zeros((lattice.num_points + 1, width), np.float32) for _ in range(2)) for lattice in lattices]


def _share(team: Team, work: Callable[[int, int], object], parts: list[tuple[int, int]]) -> None:
    team.run([functools.partial(work, *part) for part in parts])


def _blocks(first: int, last: int) -> list[tuple[int, int]]:
    return [(start, min(start + _BLOCK, last)) for start in range(first, last, _BLOCK)]


def _blur(
    lattices: Sequence[Lattice],
    q: np.ndarray,
    first_row: int,
    buffers: Sequence[tuple[np.ndarray, ...]],
    filters: Filter,
    team: Team,
) -> list[np.ndarray]:
    """Splats quads of float32 [Q * N, 4], from a row on, and blurs; returns the values of each lattice's points."""
    values = [pair[0] for pair in buffers]
    spare = [pair[1] for pair in buffers]
    classes = [(i, k) for i, lattice in enumerate(lattices) for k in range(len(lattice.starts) - 1)]

    def splat(first: int, last: int) -> None:
        for i, some in itertools.groupby(classes[first:last], lambda pair: pair[0]):
            lattice, ks = lattices[i], [k for _, k in some]
            points = (lattice.starts[ks[0]], lattice.starts[ks[-1] + 1])
            filters.splat(q, first_row, lattice.rows, lattice.weights, values[i], ks[0], ks[-1] + 1, *points)

    _share(team, splat, team.split(len(classes)))
    for axis in range(max(len(lattice.before) for lattice in lattices)):
        calls: list[list[Callable[[], object]]] = [[] for _ in range(team.threads)]
        for i, lattice in enumerate(lattices):
            if axis < len(lattice.before):
                for of_thread, part in zip(calls, team.split(lattice.num_points, _BLOCK), strict=False):
                    links = (lattice.before[axis], lattice.after[axis])
                    of_thread.append(functools.partial(filters.blur, values[i], spare[i], *links, *part))
                values[i], spare[i] = spare[i], values[i]
        team.run([functools.partial(_run_all, of_thread) for of_thread in calls if of_thread])
    return values


def _run_all(calls: list[Callable[[], object]]) -> None:
    for call in calls:
        call()


def _positions(height: int, width: int, spacing: float) -> list[np.ndarray]:
    return [np.arange(side, dtype=np.float32) / np.float32(spacing) for side in (width, height)]


def _build(
    features: Sequence[np.ndarray], height: int, width: int, colours: np.ndarray, normalization: str, team: Team
) -> Lattice:
    """Builds a lattice from the features of each x, y and, with colours uint8 [N, 3], of each level."""
    compile_kernels([embed, number, place_pixels, link, *build_filter_kernels(1)])
    num_pixels, dims = height * width, len(features)
    tables = np.zeros((dims, max(map(len, features))), np.float32)
    for table, feature, scale in zip(tables, features, axis_scales(dims), strict=True):
        table[: len(feature)] = feature * np.float32(scale)
    lowest, lengths = _bound_cells(tables.max(axis=1))
    strides = np.cumprod([1, *lengths[:-1]])
    weights = np.empty((dims + 1, num_pixels), np.float32)
    ids, orders, points = _find_points(tables, colours, width, strides, lowest, weights, team)
    starts = [0, *itertools.accumulate(map(len, points))]
    num_points = starts[-1]
    before, after = (np.empty((dims + 1, num_points), np.int32) for _ in range(2))
    # From the last class back to class 0, every cell is one further.
    steps = np.append(-strides, 0)

    def connect(k: int) -> None:
        place_pixels(ids[k], orders[k], starts[k], ids[k])
        following = (k + 1) % (dims + 1)
        for axis, step in enumerate(steps + (strides.sum() if k == dims else 0)):
            firsts = (starts[k], starts[following])
            link(points[k], points[following], step, *firsts, num_points, after[axis], before[axis])

    team.run([functools.partial(connect, k) for k in range(dims + 1)])
    unscaled = Lattice(ids, weights, np.ones(num_pixels, np.float32), starts, before, after, 1.0)
    norm = _filter(unscaled, unscaled.scale, team)
    if normalization == "after":
        return unscaled._replace(scale=1 / norm)
    root = 1 / np.sqrt(norm)
    sums = root * _filter(unscaled, root, team)
    weights *= root
    return unscaled._replace(largest_row_sum=float(sums.max()))


def _find_points(
    tables: np.ndarray,
    colours: np.ndarray,
    width: int,
    strides: np.ndarray,
    lowest: np.ndarray,
    weights: np.ndarray,
    team: Team,
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Embeds the pixels, and numbers the points of each class as they are met.

    Returns:
        ids: int32 [d + 1, N], the number of the corner of each class.
        orders: for each class int64 [points], the numbers in the order of the keys.
        points: for each class int64 [points], the keys, ascending.
    """
    classes, num_pixels = weights.shape
    keys = np.empty((classes, num_pixels), np.int64)
    colours = np.require(colours, np.uint8, "C")

    def place(first: int, last: int) -> None:
        embed(tables, colours, width, strides, lowest, first, last, keys, weights)

    _share(team, place, team.split(num_pixels, _BLOCK))
    ids = np.empty((classes, num_pixels), np.int32)
    points: list[np.ndarray] = [np.empty(0, np.int64)] * classes
    orders = list(points)

    def find(k: int) -> None:
        different = np.empty(num_pixels, np.int64)
        different = different[: number(keys[k], ids[k], different)]
        orders[k] = np.argsort(different)
        points[k] = different[orders[k]]

    team.run([functools.partial(find, k) for k in range(classes)])
    return ids, orders, points


def _filter(lattice: Lattice, values: np.ndarray, team: Team) -> np.ndarray:
    """Filters float32 [N]."""
    filters = build_filter_kernels(1)
    column = np.require(values.reshape(-1, 1), np.float32, ["C", "W"])
    blurred = _blur([lattice], column, 0, _make_buffers([lattice], 1), filters, team)[0]
    filtered = np.zeros_like(column)

    def read(first: int, last: int) -> None:
        filters.slice(lattice.rows, lattice.weights, blurred, lattice.scale, filtered, filtered, 0, first, last)

    _share(team, read, team.split(len(column), _BLOCK))
    return filtered[:, 0]


def _bound_cells(farthest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lowest cell along each coordinate but the last, and how many there are: neighbours included.

    Args:
        farthest: float32 [d], the largest scaled feature in each dimension; the smallest is 0.
    """
    dims = len(farthest)
    down = np.float32(1 / (dims + 1))
    # In the steps of `embed`, each of which rounds a larger number to no smaller one.
    total = np.float32(0)
    bounds: list[tuple[np.float32, np.float32]] = []
    for i in range(dims, 0, -1):
        bounds.insert(0, (np.rint(-np.float32(i) * farthest[i - 1] * down), np.rint(total * down)))
        total += farthest[i - 1]
    bounds.insert(0, (np.float32(0), np.rint(total * down)))
    low, high = np.array(bounds[:dims], np.int64).T
    return low - 2, high - low + 5
