"""Rows of labels as vectors of the processor, for kernels that numba compiles.

A row is what an array float32 [M, width] holds for one point or pixel. numba leaves it to LLVM to find that a loop over
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
def subtract(_: Any, row: Any, value: Any) -> Any:
    """Returns row - value, a float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fsub(args[0], _spread(builder, args[1], signature.return_type.width))

    return row(row, types.float32), generate


@_operation
def maximum(_: Any, row: Any, other: Any) -> Any:
    """Returns the larger of each two numbers; none is NaN."""
    return row(row, other), lambda context, builder, signature, args: _larger(builder, *args)


@_operation
def largest(_: Any, row: Any) -> Any:
    """Returns the largest number of a row, float32; none is NaN."""
    return types.float32(row), lambda context, builder, signature, args: _fold(builder, args[0], _larger)


@_operation
def total(_: Any, row: Any) -> Any:
    """Adds up a row, float32: halves to halves."""
    return types.float32(row), lambda context, builder, signature, args: _fold(builder, args[0], _sum)


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


def _fold(builder: Any, row: Any, combine: Callable[[Any, Any, Any], Any]) -> Any:
    """Combines one half with the other while the width is even, and then number after number."""
    width = row.type.count
    while width > 1 and width % 2 == 0:
        width //= 2
        halves = [
            builder.shuffle_vector(
                row,
                ir.Constant(row.type, ir.Undefined),
                ir.Constant(ir.VectorType(_INT, width), list(range(start, start + width))),
            )
            for start in (0, width)
        ]
        row = combine(builder, *halves)
    value = builder.extract_element(row, ir.Constant(_INT, 0))
    for i in range(1, width):
        value = combine(builder, value, builder.extract_element(row, ir.Constant(_INT, i)))
    return value
