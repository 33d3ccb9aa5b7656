"""Rows of labels as vectors of the processor, for kernels that numba compiles.

A row is what an array float32 [M, width] holds for one point, or an array of quads, float32 [M, 4], for one or several
pixels. numba leaves it to LLVM to find that a loop over
a row is one instruction, and LLVM does not where arrays might overlap. So these operations say it. Widths are known
when a kernel is compiled, and are multiples of four.

Every operation rounds as IEEE 754 says and adds up in an order that depends on the width only: no result depends on
the processor's vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

_operation: Any = intrinsic(prefer_literal=True)
_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
# exp(x) = 2^n exp(r): Cephes' expf, whose polynomial is within 1e-7 of exp on |r| <= ln(2) / 2.
_LOWEST, _ROUND = -87.0, 1.5 * 2**23
_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.44269504088896341, 0.693359375, -2.12194440e-4
_POLYNOMIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


class Row(types.Type):
    """float32 [width]."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Row({width})")


@register_model(Row)
class _RowModel(models.PrimitiveModel):
    def __init__(self, manager: Any, row: Row) -> None:
        super().__init__(manager, row, ir.VectorType(_FLOAT, row.width))


@_operation
def load(_: Any, array: Any, index: Any, width: Any) -> Any:
    """Reads row `index` of a C-contiguous float32 [M, width]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, signature, args), align=4)

    return Row(width.literal_value)(array, index, width), generate


@_operation
def store(_: Any, array: Any, index: Any, row: Any) -> Any:
    """Writes row `index` of a C-contiguous float32 [M, width]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, signature, args), align=4)
        return context.get_dummy_value()

    return types.void(array, index, row), generate


@_operation
def load_quads(_: Any, array: Any, index: Any, stride: Any, width: Any) -> Any:
    """Reads float32 [M, 4] as a row: the quads index, index + stride and so on; [M, 1] where the width is 1."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        addresses = _quads(context, builder, signature.args, args, signature.return_type.width)
        return _join(builder, [builder.load(address, align=4) for address in addresses])

    return Row(width.literal_value)(array, index, stride, width), generate


@_operation
def store_quads(_: Any, array: Any, index: Any, stride: Any, row: Any) -> Any:
    """Writes a row where `load_quads` would read it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        addresses = _quads(context, builder, signature.args, args, row.width)
        size = row.width // len(addresses)
        for quad, address in enumerate(addresses):
            builder.store(_pick(builder, args[3], list(range(size * quad, size * quad + size))), address, align=4)
        return context.get_dummy_value()

    return types.void(array, index, stride, row), generate


@_operation
def load_run(_: Any, array: Any, index: Any, width: Any) -> Any:
    """Reads float32 [M, 4] as a row: a quarter of `width` consecutive quads, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _element(context, builder, signature.args, args, 4)
        return builder.load(builder.bitcast(address, _vector(signature.return_type.width).as_pointer()), align=4)

    return Row(width.literal_value)(array, index, width), generate


@_operation
def store_run(_: Any, array: Any, index: Any, row: Any) -> Any:
    """Writes a row where `load_run` would read it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _element(context, builder, signature.args, args, 4)
        builder.store(args[2], builder.bitcast(address, args[2].type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, index, row), generate


@_operation
def repeat(_: Any, array: Any, index: Any, width: Any) -> Any:
    """Reads a quarter of `width` numbers of float32 [N], from an index on, each four times: a number for each quad."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _element(context, builder, signature.args, args)
        width = signature.return_type.width
        numbers = builder.load(builder.bitcast(address, _vector(width // 4).as_pointer()), align=4)
        return _pick(builder, numbers, [lane // 4 for lane in range(width)])

    return Row(width.literal_value)(array, index, width), generate


@_operation
def fill(_: Any, value: Any, width: Any) -> Any:
    """Returns a row with the same float32 everywhere."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _spread(builder, args[0], signature.return_type.width)

    return Row(width.literal_value)(types.float32, width), generate


@_operation
def add(_: Any, row: Any, other: Any) -> Any:
    """Adds two rows."""
    return row(row, other), lambda context, builder, signature, args: builder.fadd(*args)


@_operation
def multiply(_: Any, row: Any, factor: Any) -> Any:
    """Returns row * factor, a float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fmul(args[0], _spread(builder, args[1], signature.return_type.width))

    return row(row, types.float32), generate


@_operation
def times(_: Any, row: Any, other: Any) -> Any:
    """Multiplies two rows."""
    return row(row, other), lambda context, builder, signature, args: builder.fmul(*args)


@_operation
def minus(_: Any, row: Any, other: Any) -> Any:
    """Returns row - other, a row."""
    return row(row, other), lambda context, builder, signature, args: builder.fsub(*args)


@_operation
def over(_: Any, row: Any, other: Any) -> Any:
    """Returns row / other, a row."""
    return row(row, other), lambda context, builder, signature, args: builder.fdiv(*args)


@_operation
def largest_of_quads(_: Any, row: Any) -> Any:
    """Returns for each number the largest of its quad; none is NaN."""
    return row(row), lambda context, builder, signature, args: _fold_quads(builder, args[0], _larger)


@_operation
def totals_of_quads(_: Any, row: Any) -> Any:
    """Returns for each number the sum of its quad."""
    return row(row), lambda context, builder, signature, args: _fold_quads(builder, args[0], _sum)


@_operation
def maximum(_: Any, row: Any, other: Any) -> Any:
    """Returns the larger of each two numbers; none is NaN."""
    return row(row, other), lambda context, builder, signature, args: _larger(builder, *args)


@_operation
def exp(_: Any, row: Any) -> Any:
    """Raises e to each number, all <= 88, to two units in the last place; what is less than -87 counts as -87."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        width = signature.return_type.width

        def constant(value: float) -> Any:
            return ir.Constant(ir.VectorType(_FLOAT, width), [float(np.float32(value))] * width)

        x = _larger(builder, args[0], constant(_LOWEST))
        n = builder.fsub(builder.fadd(builder.fmul(x, constant(_LOG2_E)), constant(_ROUND)), constant(_ROUND))
        r = builder.fsub(x, builder.fmul(n, constant(_LN2_HIGH)))
        r = builder.fsub(r, builder.fmul(n, constant(_LN2_LOW)))
        p = constant(_POLYNOMIAL[0])
        for coefficient in _POLYNOMIAL[1:]:
            p = builder.fadd(builder.fmul(p, r), constant(coefficient))
        p = builder.fadd(builder.fadd(builder.fmul(builder.fmul(p, r), r), r), constant(1))
        integers = ir.VectorType(_INT, width)
        exponent = builder.add(builder.fptosi(n, integers), ir.Constant(integers, [127] * width))
        power = builder.bitcast(builder.shl(exponent, ir.Constant(integers, [23] * width)), p.type)
        return builder.fmul(p, power)

    return row(row), generate


def _address(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Returns a pointer to a row, from an array and its index in `args`; unchecked."""
    row = signature.return_type if isinstance(signature.return_type, Row) else signature.args[2]
    data = context.make_array(signature.args[0])(context, builder, value=args[0]).data
    index = context.cast(builder, args[1], signature.args[1], types.intp)
    first = builder.gep(data, [builder.mul(index, ir.Constant(index.type, row.width))])
    return builder.bitcast(first, ir.VectorType(_FLOAT, row.width).as_pointer())


def _vector(width: int) -> Any:
    return ir.VectorType(_FLOAT, width)


def _element(context: Any, builder: Any, kinds: Any, args: Any, step: int = 1) -> Any:
    """Returns a pointer to the number `step` * index of an array."""
    data = context.make_array(kinds[0])(context, builder, value=args[0]).data
    index = context.cast(builder, args[1], kinds[1], types.intp)
    return builder.gep(data, [builder.mul(index, ir.Constant(index.type, step))])


def _quads(context: Any, builder: Any, kinds: Any, args: Any, width: int) -> list[Any]:
    """Returns pointers to the quads that begin at an index and are a stride apart."""
    size = min(4, width)
    first = _element(context, builder, kinds, args, size)
    stride = context.cast(builder, args[2], kinds[2], types.intp)
    steps = [builder.mul(stride, ir.Constant(stride.type, start)) for start in range(0, width, size)]
    kind = _vector(size).as_pointer()
    return [builder.bitcast(builder.gep(first, [step]), kind) for step in steps]


def _pick(builder: Any, row: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(
        row, ir.Constant(row.type, ir.Undefined), ir.Constant(ir.VectorType(_INT, len(lanes)), lanes)
    )


def _join(builder: Any, rows: list[Any]) -> Any:
    """Puts rows of the same width, a power of two of them, one after the other."""
    while len(rows) > 1:
        lanes = ir.Constant(ir.VectorType(_INT, 2 * rows[0].type.count), list(range(2 * rows[0].type.count)))
        rows = [builder.shuffle_vector(one, other, lanes) for one, other in zip(rows[::2], rows[1::2], strict=True)]
    return rows[0]


def _fold_quads(builder: Any, row: Any, combine: Callable[[Any, Any, Any], Any]) -> Any:
    for distance in (2, 1):
        row = combine(builder, row, _pick(builder, row, [lane ^ distance for lane in range(row.type.count)]))
    return row


def _spread(builder: Any, value: Any, width: int) -> Any:
    vector = ir.VectorType(_FLOAT, width)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(
        first, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(_INT, width), [0] * width)
    )


def _larger(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


def _sum(builder: Any, one: Any, other: Any) -> Any:
    return builder.fadd(one, other)
