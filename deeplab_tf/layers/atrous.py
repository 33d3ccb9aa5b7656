"""Atrous convolution by deinterlacing (Sec. 3.1).

An atrous convolution of rate r touches, for each output, only inputs that are a multiple of r away. Splitting
the feature map into its r*r shifted, subsampled maps (phases) therefore turns it into an ordinary convolution
of a batch r*r times as large, for which every library has a fast routine; putting the phases back together
gives the atrous answer exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import keras
import tensorflow as tf

from deeplab_tf.layers import forward_only, portable, winograd
from deeplab_tf.layers.resize import spatial_shape
from deeplab_tf.layers.winograd import USUAL_CELLS

IMPLEMENTATIONS = ("deinterlace", "dilated", "auto")
# Up to so many cells a side of a phase, adding the taps one by one is faster than deinterlacing. In bfloat16 matrix
# units make products cheap: forward, multiplying zeros soon costs less than moving maps around.
SMALL_PHASE_CELLS = 11
SMALL_PHASE_CELLS_BFLOAT16 = 6
LARGE_KERNEL = 7  # of so many taps a side the products, not the moving of maps, take the time, in bfloat16 too
MANY_IMAGES = 4  # from here on TensorFlow's dilated convolution is faster forward, in float32

Form = Callable[[tf.Tensor, tf.Tensor, int], tf.Tensor]  # x, kernel and rate to y


def deinterlace(x: tf.Tensor, rate: int, margin: tuple[int, int] = (0, 0)) -> tf.Tensor:
    """Splits a feature map into its rate**2 shifted, subsampled maps (Sec. 3.1).

    Args:
        x: [B, H, W, C], any dtype; H and W may be unknown at graph time.
        rate: r >= 1, in feature-map cells, not input pixels.
        margin: rows and columns of zeros above and left of the map; below they count as rows and columns of it.

    Returns:
        Same dtype, [r*r*B, ceil(H/r), ceil(W/r), C]; cells past the bottom and right edges are zero. Map
        (i, j) of image b, `x[b, i::r, j::r]`, is at batch index (i*r + j)*B + b.

    Raises:
        ValueError: rate < 1, or x is not of rank 4.
    """
    x = feature_map(x, rate)
    paddings = [[before, -(before + size) % rate] for before, size in zip(margin, spatial_shape(x), strict=True)]
    return tf.space_to_batch(x, [rate, rate], paddings)


def interlace(x: tf.Tensor, rate: int, height: int | tf.Tensor, width: int | tf.Tensor) -> tf.Tensor:
    """Puts the maps that `deinterlace` made back together.

    Args:
        x: [r*r*B, h, w, C], with h*r >= height and w*r >= width.
        rate: r >= 1.
        height: H of the result, in cells; an int or a scalar int32 tensor.
        width: W of the result.

    Returns:
        Same dtype, [B, H, W, C]. What lies past H and W is dropped.

    Raises:
        ValueError: rate < 1, or x is not of rank 4.
    """
    x = feature_map(x, rate)
    phase_height, phase_width = spatial_shape(x)
    crops = [[0, phase_height * rate - height], [0, phase_width * rate - width]]
    return tf.batch_to_space(x, [rate, rate], crops)


def atrous_conv2d(x: tf.Tensor, kernel: tf.Tensor, rate: int, implementation: str = "deinterlace") -> tf.Tensor:
    """Convolves with a kernel whose taps are `rate` cells apart: Eq. 1 in two dimensions, stride 1.

    The map is padded with (k - 1) * rate zeros in each dimension, the smaller half before it, so that the
    result has its size. This is also what TensorFlow's dilated convolution calls SAME.

    Args:
        x: float [B, H, W, C]; H and W may be unknown at graph time.
        kernel: [kh, kw, C, F], dtype of x, any size, odd or even.
        rate: r >= 1, in feature-map cells.
        implementation: "deinterlace" (Sec. 3.1); "dilated", TensorFlow's own dilated convolution; or "auto", the
            first, but the second where that was measured to be faster: on CPUs only forward, for inference (a training
            step in bfloat16 is faster with the first); on GPUs in bfloat16, forward and backward. Where
            `forward_only.wanted`, the first is "auto"; where `winograd.allowed`, any of them may be computed by
            `winograd.conv2d`; where `portable.wanted`, all of them are computed by `portable.conv2d`.

    Returns:
        Same dtype as x, [B, H, W, F].

    Raises:
        ValueError: rate < 1, x is not of rank 4, or an unknown implementation.
    """
    x = feature_map(x, rate)
    check_implementation(implementation)
    if portable.is_wanted():
        return portable.conv2d(x, kernel, rate=rate)
    if winograd.is_faster(x, kernel, rate):
        return winograd.conv2d(x, kernel, rate)
    if rate == 1 or implementation == "dilated":
        return _dilated(x, kernel, rate)
    form = _form(x, kernel, rate)
    forward = forward_only.is_wanted()
    if (implementation == "auto" or forward) and _dilated_is_faster(x, kernel, rate, form):
        # On CPUs the gradient of TensorFlow's dilated convolution is slow.
        return _dilated(x, kernel, rate) if _on_gpu() or forward else _forward_by(_dilated, form, x, kernel, rate)
    if form is _sum_of_taps and x.dtype == tf.bfloat16 and _phase_cells(x, rate) > SMALL_PHASE_CELLS_BFLOAT16:
        return _forward_by(_convolve_phases, form, x, kernel, rate)
    return form(x, kernel, rate)


class FixedGeometry:
    """What the atrous layers share: strides and padding are fixed, the rate is ours. Mixed in before Keras' class."""

    _FIXED: ClassVar[tuple[str, ...]] = ("strides", "padding", "data_format", "dilation_rate")
    rate: int
    implementation: str

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()  # type: ignore[misc]
        arguments = {name: value for name, value in config.items() if name not in self._FIXED}
        return arguments | {"rate": self.rate, "implementation": self.implementation}


@keras.saving.register_keras_serializable(package="deeplab_tf")
class AtrousConv2D(FixedGeometry, keras.layers.Conv2D):
    """Atrous convolution, stride 1, output of the input's size (Sec. 3.1).

    Input float [B, H, W, C], output [B, H, W, filters], any H and W. The effective kernel size is
    k + (k - 1)(rate - 1), at the cost and with the parameters of a k x k kernel. Everything that
    `keras.layers.Conv2D` takes (use_bias, activation, initializers, regularizers, dtype, ...) is taken here;
    padding and strides are fixed.

    Args:
        filters: number of output channels.
        kernel_size: k, or (kh, kw); odd or even.
        rate: r >= 1, in feature-map cells.
        implementation: "deinterlace", "dilated" or "auto", see `atrous_conv2d`; the same numbers up to rounding.
        **kwargs: as for `keras.layers.Conv2D`.

    Raises:
        ValueError: rate < 1, an unknown implementation, or an argument that this layer fixes.
    """

    _FIXED = (*FixedGeometry._FIXED, "groups")

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        rate: int = 1,
        implementation: str = "deinterlace",
        **kwargs: Any,
    ) -> None:
        check_layer(self, self._FIXED, kwargs, rate, implementation)
        super().__init__(
            filters, kernel_size, padding="same", data_format="channels_last", dilation_rate=rate, **kwargs
        )
        self.rate = rate
        self.implementation = implementation

    @property
    def effective_kernel_size(self) -> tuple[int, int]:
        """The span k + (k - 1)(r - 1) in each dimension, in cells (Sec. 3.1)."""
        height, width = (k + (k - 1) * (self.rate - 1) for k in self.kernel_size)
        return height, width

    def convolution_op(self, inputs: tf.Tensor, kernel: Any) -> tf.Tensor:
        """Replaces the convolution of `keras.layers.Conv2D`; bias and activation stay there."""
        inputs = tf.convert_to_tensor(inputs)
        kernel = tf.cast(tf.convert_to_tensor(kernel), inputs.dtype)
        return atrous_conv2d(inputs, kernel, self.rate, self.implementation)


def check_layer(
    layer: keras.layers.Layer, fixed: Iterable[str], arguments: Iterable[str], rate: int, implementation: str
) -> None:
    """Refuses what an atrous layer cannot be made with: names of arguments that it fixes, a rate, an implementation."""
    if refused := [name for name in fixed if name in arguments]:
        name = type(layer).__name__
        raise ValueError(f"{name} has stride 1 and padding 'same'; it takes no {', '.join(refused)}.")
    check_rate(rate)
    check_implementation(implementation)


def feature_map(x: tf.Tensor, rate: int) -> tf.Tensor:
    """Returns x as a tensor; refuses what is not of rank 4, and a rate below 1."""
    check_rate(rate)
    x = tf.convert_to_tensor(x)
    if x.shape.rank != 4:
        raise ValueError(f"expected a feature map [B, H, W, C], got shape {x.shape}.")
    return x


def check_rate(rate: int) -> None:
    """Refuses a rate below 1."""
    if rate < 1:
        raise ValueError(f"rate must be >= 1, got {rate}. Rate 1 is ordinary convolution.")


def check_implementation(implementation: str) -> None:
    """Refuses an unknown implementation."""
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(f"implementation must be one of {IMPLEMENTATIONS}, got {implementation!r}.")


def _form(x: tf.Tensor, kernel: tf.Tensor, rate: int) -> Form:
    """Chooses how to compute what deinterlacing defines; measured in docs/performance.md.

    - Few outputs (a classifier): all taps are applied to the whole map in one product and the scores moved.
    - Phases of few cells: most products would be with zeros past a phase's edge; the taps are added one by one.
    - Otherwise the map is deinterlaced.
    """
    kernel_height, kernel_width, channels, filters = kernel.shape
    if kernel_height * kernel_width * filters <= 2 * channels:
        return _project_and_shift
    return _sum_of_taps if _phase_cells(x, rate) <= SMALL_PHASE_CELLS else _convolve_phases


def _phase_cells(x: tf.Tensor, rate: int) -> int:
    """The longer side of a phase."""
    return max(-(-(USUAL_CELLS if size is None else size) // rate) for size in x.shape[1:3])


def _dilated(x: tf.Tensor, kernel: tf.Tensor, rate: int) -> tf.Tensor:
    return tf.nn.conv2d(x, kernel, strides=1, padding="SAME", dilations=rate)


def _dilated_is_faster(x: tf.Tensor, kernel: tf.Tensor, rate: int, form: Form) -> bool:
    """Says where TensorFlow's dilated convolution was measured to be more than 1.05x faster forward.

    The shapes are listed in docs/performance.md.
    """
    if _on_gpu():
        return x.dtype == tf.bfloat16  # forward and backward, as whole networks
    if form is _project_and_shift:
        # Most taps see a small part of the map, but all of it is projected.
        return x.dtype == tf.float32 and _phase_cells(x, rate) <= 3
    if x.dtype == tf.float32:
        # TensorFlow's convolutions share the work among the images: few images leave cores idle.
        return (x.shape[0] or 1) >= MANY_IMAGES
    return x.dtype == tf.bfloat16 and max(kernel.shape[:2]) < LARGE_KERNEL


def _on_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def _forward_by(form: Form, gradient_form: Form, x: tf.Tensor, kernel: tf.Tensor, rate: int) -> tf.Tensor:
    """Computes by one form and differentiates another one of the same function."""

    @tf.custom_gradient
    def convolve(x: tf.Tensor, kernel: tf.Tensor) -> Any:
        def gradients(towards: tf.Tensor) -> list[tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch([x, kernel])
                y = gradient_form(x, kernel, rate)  # a graph leaves out what its gradient does not need
            return tape.gradient(y, [x, kernel], towards)

        return form(x, kernel, rate), gradients

    return convolve(x, kernel)


def _convolve_phases(x: tf.Tensor, kernel: tf.Tensor, rate: int) -> tf.Tensor:
    """Sec. 3.1: deinterlaces, convolves, interlaces."""
    height, width = spatial_shape(x)
    # The taps of an even kernel fall between the phases of its centre: the map is moved until they meet.
    rows, columns = ((size - 1) * rate // 2 - (size - 1) // 2 * rate for size in kernel.shape[:2])
    phases = deinterlace(x, rate, margin=(rows, columns))  # [r*r*B, h, w, C]
    return interlace(tf.nn.conv2d(phases, kernel, strides=1, padding="SAME"), rate, height, width)


def _sum_of_taps(x: tf.Tensor, kernel: tf.Tensor, rate: int) -> tf.Tensor:
    """Eq. 1 as it stands: adds one matrix product per tap, over the part of the map that the tap sees.

    Deinterlaced, a 41x41 map at rate 24 has phases of 2x2 cells, and a corner tap sees 17x17 of its 41x41 positions.
    These are the same sums without the zeros.
    """
    rows, columns = _tap_offsets(kernel.shape[0], rate), _tap_offsets(kernel.shape[1], rate)
    # Unstacked rather than indexed: the gradient stacks the taps once instead of padding each to the whole kernel.
    taps = iter(tf.unstack(tf.reshape(kernel, [-1, *kernel.shape[2:]])))  # [C, F] each
    total = None
    for dy in rows:
        # One line of taps at a time: all at once would hold as many maps as there are taps.
        with tf.control_dependencies([] if total is None else [total]):
            line = _seen(x, dy, 0)
            parts = [_placed(tf.tensordot(_seen(line, 0, dx), next(taps), 1), x, 0, dx) for dx in columns]
            part = _placed(tf.add_n(parts), x, dy, 0)  # [B, H, W, F]
        total = part if total is None else total + part
    return total


def _project_and_shift(x: tf.Tensor, kernel: tf.Tensor, rate: int) -> tf.Tensor:
    """Applies all taps to all cells, then adds each tap's answers where they belong."""
    rows, columns = _tap_offsets(kernel.shape[0], rate), _tap_offsets(kernel.shape[1], rate)
    channels, filters = kernel.shape[2:]
    taps = tf.reshape(kernel, [-1, channels, filters])
    taps = tf.reshape(tf.transpose(taps, [1, 0, 2]), [channels, -1])  # [C, kh*kw*F]
    answers = iter(tf.split(tf.tensordot(x, taps, 1), len(rows) * len(columns), axis=-1))  # [B, H, W, F] each
    return tf.add_n([_placed(_seen(next(answers), dy, dx), x, dy, dx) for dy in rows for dx in columns])


def _seen(x: tf.Tensor, dy: int, dx: int) -> tf.Tensor:
    """The part of a map that a tap sees: the cells (dy, dx) away from another cell of it.

    Sliced by `tf.slice`, whose gradient pads; that of Python slices is many times slower.
    """
    height, width = spatial_shape(x)
    begin = [0, _clip(dy, height), _clip(dx, width), 0]
    return tf.slice(x, begin, [-1, height - _clip(abs(dy), height), width - _clip(abs(dx), width), -1])


def _placed(part: tf.Tensor, x: tf.Tensor, dy: int, dx: int) -> tf.Tensor:
    """Puts what was computed from `_seen(x, dy, dx)` at the cells that it belongs to, zeros elsewhere."""
    height, width = spatial_shape(x)
    rows, columns = ([_clip(-offset, size), _clip(offset, size)] for offset, size in ((dy, height), (dx, width)))
    return tf.pad(part, [[0, 0], rows, columns, [0, 0]])


def _clip(offset: int, size: int | tf.Tensor) -> int | tf.Tensor:
    """Clips an offset to 0..size."""
    return min(max(offset, 0), size) if isinstance(size, int) else tf.minimum(max(offset, 0), size)


def _tap_offsets(kernel_size: int, rate: int) -> list[int]:
    """Where the taps lie relative to the output cell; of an odd total of padding the smaller half comes first."""
    before = (kernel_size - 1) * rate // 2
    return [tap * rate - before for tap in range(kernel_size)]
