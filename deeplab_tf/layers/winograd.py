"""3x3 convolutions with half of the multiplications: Winograd's minimal filtering, along the rows.

A filter of 3 taps makes 4 outputs from 6 inputs with 6 multiplications instead of 12 (Winograd, "Arithmetic Complexity
of Computations", 1980; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, Sec. 4):

    y = A^T [(G g) * (B^T d)]      g: 3 taps, d: 6 inputs, y: 4 outputs, *: number by number

Here the filter runs down the columns of a feature map. d, y and g are then rows of cells: * is a convolution by a 1x3
kernel, which the library computes, and G g depends on the weights alone (`fold.py` computes it once). B^T and A^T
are applied to all rows in one matrix product each. An atrous filter combines rows that are `rate` apart, which is
another matrix of the same size: there is nothing to deinterlace. The matrices are dense, and their work grows with the
square of the height: a high map is cut into blocks of rows, which overlap by what the taps see.

The sums are the same in another order; rounding grows by a factor of three or so.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from deeplab_tf.layers.resize import spatial_shape

TAPS = 3
LEAST_CHANNELS = 256  # with fewer, in or out, moving the rows takes what the multiplications save
USUAL_CELLS = 65  # a side, of the score map of a 513x513 image: assumed where a graph does not know the size
UNCUT_ROWS = 132  # so high a map is one block: of a 1025x1025 image the score map has 129 rows
BLOCK_ROWS = 72  # of a higher one, at most
WORTHWHILE = 0.75  # so much of the multiplications of an ordinary convolution, those of the transforms included
_allowed = contextvars.ContextVar("_allowed", default=False)


class Filter(NamedTuple):
    """F(m, 3): m outputs from m + 2 inputs, by multiplying polynomials by their values at m + 1 points and infinity.

    Attributes:
        output_transform: A^T, [m, m + 2].
        kernel_transform: G, [m + 2, 3].
        input_transform: B^T, [m + 2, m + 2].
    """

    output_transform: np.ndarray
    kernel_transform: np.ndarray
    input_transform: np.ndarray

    @classmethod
    def at(cls, *points: float) -> Filter:
        """Makes the filter of m + 1 different points (Toom and Cook's multiplication, transposed)."""
        outputs, inputs = len(points) - 1, len(points) + 1
        return cls(_values(points, outputs).T, _values(points, TAPS), np.linalg.inv(_values(points, inputs)).T)

    @property
    def outputs(self) -> int:
        """How many outputs: m."""
        return len(self.output_transform)

    @property
    def inputs(self) -> int:
        """How many inputs, and multiplications: m + 2."""
        return len(self.input_transform)


def _values(points: tuple[float, ...], terms: int) -> np.ndarray:
    """1, x, x^2, ... at some points, and the leading coefficient alone at infinity: float64 [points + 1, terms]."""
    return np.vstack([np.power.outer(np.array(points), np.arange(terms)), np.eye(terms)[-1]])


F4 = Filter.at(0, 1, -1, 0.5, -0.5)
# For rates that leave a phase some six rows, which two tiles of four fill badly. Its kernels take a third more memory,
# so it has to save a quarter of the products.
F6 = Filter.at(0, 1, -1, 0.5, -0.5, 2, -2)
MUCH_FEWER = 0.75


@contextlib.contextmanager
def allowed(value: bool = True) -> Iterator[None]:
    """Lets convolutions that are traced in here be computed so, where `is_faster` says that it pays."""
    token = _allowed.set(value)
    try:
        yield
    finally:
        _allowed.reset(token)


def is_faster(x: tf.Tensor, kernel: tf.Tensor, rate: int) -> bool:
    """Says whether `conv2d` is allowed, and was measured to be faster: wide 3x3 kernels, float32, CPUs.

    Args:
        x: [B, H, W, C].
        kernel: [kh, kw, C, F].
        rate: r >= 1; with very high ones most taps fall outside of the map, and leaving these out is faster.
    """
    return (
        _allowed.get()
        and x.dtype == tf.float32
        and tuple(kernel.shape[:2]) == (TAPS, TAPS)
        and min(kernel.shape[2:]) >= LEAST_CHANNELS
        and _share(_rows(x), kernel.shape[2:], rate, _filter_for(x, rate)) < WORTHWHILE
        and not tf.config.list_physical_devices("GPU")
    )


def conv2d(x: tf.Tensor, kernel: tf.Tensor, rate: int = 1) -> tf.Tensor:
    """Convolves with a 3x3 kernel whose taps are `rate` cells apart; stride 1, padded with zeros to the size of x.

    Args:
        x: float [B, H, W, C]; B, H and W may be unknown at graph time.
        kernel: [3, 3, C, F], dtype of x.
        rate: r >= 1, in feature-map cells.

    Returns:
        Same dtype as x, [B, H, W, F].
    """
    channels, filters = kernel.shape[2:]
    batch = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
    height, width = spatial_shape(x)
    chosen = _filter_for(x, rate)
    blocks, block = _blocks(height, rate * chosen.outputs)
    tiles = _tiles(block, rate, chosen.outputs)
    kernels = tf.tensordot(tf.constant(chosen.kernel_transform, x.dtype), kernel, 1)  # [m + 2, 3, C, F]
    rows = tf.reshape(x, [batch, height, width * channels])
    margin = 0
    if tf.is_tensor(blocks) or blocks > 1:
        margin = rate
        rows = _cut(rows, batch, blocks, block, margin)  # [B * blocks, margin + block + margin, W * C]
        batch *= blocks
    gather, scatter = _row_transforms(block, margin, rate, tiles, chosen, x.dtype)
    products = []
    for gather_one, row_kernel in zip(tf.unstack(gather), tf.split(kernels, chosen.inputs), strict=True):
        # One by one: a matrix product whose two sides are both repeated along a batch crashes TensorFlow 2.21.
        gathered = tf.reshape(tf.matmul(gather_one, rows), [batch, tiles, width, channels])
        product = tf.nn.conv2d(gathered, row_kernel, 1, "SAME", dilations=[1, rate])
        products.append(tf.reshape(product, [batch, tiles, width * filters]))
    y = tf.matmul(scatter, tf.concat(products, axis=1))  # [B * blocks, block, W * F]
    if tf.is_tensor(blocks) or blocks > 1:
        batch = batch // blocks
        y = tf.reshape(y, [batch, blocks * block, width * filters])[:, :height]
    return tf.ensure_shape(tf.reshape(y, [batch, height, width, filters]), [*x.shape[:3], filters])


def _rows(x: tf.Tensor) -> int:
    return USUAL_CELLS if x.shape[1] is None else x.shape[1]


def _filter_for(x: tf.Tensor, rate: int) -> Filter:
    few, many = (_products(_rows(x), rate, some) for some in (F6, F4))
    return F6 if few < MUCH_FEWER * many else F4


def _products(rows: int, rate: int, some: Filter) -> int:
    """Rows that are convolved; each row of an ordinary convolution is made of 3."""
    return _tiles(rows, rate, some.outputs) * some.inputs


def _share(rows: int, channels: tf.TensorShape, rate: int, some: Filter) -> float:
    """Multiplications of `conv2d`, of its dense transforms too, over those of an ordinary convolution."""
    inputs, outputs = channels
    blocks, block = _blocks(rows, rate * some.outputs)
    each = TAPS * inputs * outputs + block * (inputs + outputs)
    return blocks * _products(block, rate, some) * each / (rows * TAPS**2 * inputs * outputs)


def _blocks(height: int | tf.Tensor, period: int) -> tuple[int | tf.Tensor, int | tf.Tensor]:
    """Cuts a map into equal blocks of rows; returns how many, and the rows of each.

    Several blocks are made of whole periods, in which the tiles lie alike, and the last one may reach past the map. One
    block is the map. Where the height is not known until run time, neither is the number.
    """
    blocks = (height - 1) // BLOCK_ROWS + 1
    if tf.is_tensor(height):
        blocks = tf.where(height <= UNCUT_ROWS, 1, blocks)
    elif height <= UNCUT_ROWS:
        blocks = 1
    rows = -(-height // (blocks * period)) * period
    if tf.is_tensor(height):
        return blocks, tf.where(blocks == 1, height, rows)
    return (1, height) if blocks == 1 else (blocks, rows)


def _cut(
    rows: tf.Tensor, batch: int | tf.Tensor, blocks: int | tf.Tensor, block: int | tf.Tensor, margin: int
) -> tf.Tensor:
    """Cuts [B, H, N] into blocks with `margin` rows more above and below, zeros outside: [B * blocks, rows, N]."""
    height, width = tf.shape(rows)[1], tf.shape(rows)[2]
    padded = tf.pad(rows, [[0, 0], [margin, blocks * block - height + margin], [0, 0]])
    first = tf.range(blocks) * block
    taken = first[:, tf.newaxis] + tf.range(block + 2 * margin)
    return tf.reshape(tf.gather(padded, taken, axis=1), [batch * blocks, block + 2 * margin, width])


def _tiles(height: int | tf.Tensor, rate: int, outputs: int) -> int | tf.Tensor:
    """How many tiles of some output rows, `rate` apart, cover a map."""
    rest = height % (outputs * rate)
    return height // (outputs * rate) * rate + (tf.minimum(rest, rate) if tf.is_tensor(rest) else min(rest, rate))


def _row_transforms(
    height: int | tf.Tensor, margin: int, rate: int, tiles: int | tf.Tensor, chosen: Filter, dtype: tf.DType
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what the tiles take from the rows of a map, and what they give to them.

    [m + 2, T, margin + H + margin], by the input transform: how much of row h tile t gathers for each of its products.
    [H, (m + 2) * T], by the output transform: how much of each product row h is made of. Rows outside of the map, or of
    its margin, are zeros.
    """
    tile = tf.range(tiles)
    first = tile // rate * (chosen.outputs * rate) + tile % rate  # [T], the first output row

    def rows_of(transform: np.ndarray, offsets: range, margin: int) -> tf.Tensor:
        rows = first[:, tf.newaxis] + tf.constant(list(offsets)) * rate + margin  # [T, offsets]
        among = height + 2 * margin
        one_hot = tf.reshape(tf.one_hot(rows, among, axis=1, dtype=dtype), [tiles * among, len(offsets)])
        # What changes stands first: told that weights do not change, TensorFlow keeps the second one.
        return tf.reshape(tf.matmul(one_hot, tf.constant(transform, dtype)), [tiles, among, chosen.inputs])

    gather = tf.transpose(rows_of(chosen.input_transform.T, range(-1, chosen.inputs - 1), margin), [2, 0, 1])
    scatter = tf.transpose(rows_of(chosen.output_transform, range(chosen.outputs), 0), [1, 2, 0])
    return gather, tf.reshape(scatter, [height, chosen.inputs * tiles])
