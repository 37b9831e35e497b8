"""The matrix library that numpy comes with, for compiled code to call without numpy in between.

A product of two 64 x 64 panels takes 7 us, and asking numpy for it several more.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import ThreadpoolController

_ROW_MAJOR, _AS_IT_IS = 101, 111
"""CBLAS: rows lie in memory one behind the other, and no operand is transposed."""


_NUMPYS = {"numpy.libs", "numpy"}
"""Folders that numpy's wheels bring their library in."""


@functools.cache
def libraries() -> ThreadpoolController:
    """The libraries with threads of their own that are loaded."""
    return ThreadpoolController()


@dataclass(frozen=True)
class Products:
    """Where in memory the library's matrix products are, of single and of double precision."""

    single: int
    double: int


@functools.cache
def products_in_memory() -> Products | None:
    """The products of numpy's own library; None if it is not the one of numpy's wheels."""
    for library in libraries().lib_controllers:
        if library.user_api == "blas" and _NUMPYS.intersection(Path(library.filepath).parts):
            try:
                found = (library.dynlib[f"scipy_cblas_{x}gemm64_"] for x in "sd")
                return Products(*(ctypes.cast(f, ctypes.c_void_p).value or 0 for f in found))
            except AttributeError:
                continue
    return None


def multiply_single(
    product: int, rows: int, inner: int, columns: int, a: Any, b: Any, c: Any, step: int
) -> None:
    """In compiled code ``c[...] = a @ b`` of float32; arguments as of `multiply_double`."""
    raise NotImplementedError


def multiply_double(
    product: int, rows: int, inner: int, columns: int, a: Any, b: Any, c: Any, step: int
) -> None:
    """In compiled code ``c[...] = a @ b`` of float64.

    `a`, `b`, `c` are addresses; rows of `b` and `c` are `columns` long, those of `a` begin `step`
    numbers apart. `product` is one of `Products`.
    """
    raise NotImplementedError


def _intrinsic(scalar: str) -> Any:
    """What numba makes of one of these functions: a call of the library."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    number = {"single": ir.FloatType(), "double": ir.DoubleType()}[scalar]

    @intrinsic
    def multiply(context, product, rows, inner, columns, a, b, c, step):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            product, rows, inner, columns, a, b, c, step = arguments
            whole, flag = ir.IntType(64), ir.IntType(32)
            pointer = number.as_pointer()
            layout = [flag(_ROW_MAJOR), flag(_AS_IT_IS), flag(_AS_IT_IS)]
            a, b, c = (builder.inttoptr(address, pointer) for address in (a, b, c))
            operands = [number(1.0), a, step, b, columns, number(0.0), c, columns]
            call = [*layout, rows, columns, inner, *operands]
            kind = ir.FunctionType(ir.VoidType(), [each.type for each in call])
            assert all(each.type == whole for each in (rows, columns, inner, step))
            builder.call(builder.inttoptr(product, kind.as_pointer()), call)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), generate

    return multiply


FOR_NUMBA: dict[Any, Callable[[], Any]] = {
    multiply_single: functools.partial(_intrinsic, "single"),
    multiply_double: functools.partial(_intrinsic, "double"),
}
"""What stands for these functions in compiled code."""
