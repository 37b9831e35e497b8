"""Expressions in sweep files and ``--where``: arithmetic and comparisons over names, nothing else.

Python's parser reads them, and a short list of node types is evaluated here; there is no ``eval``,
no call beyond ``min``, ``max`` and ``abs``, no attribute of an object.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from archsim.config.quantity import EXAMPLES, parse_quantity
from archsim.config.section import suggestion
from archsim.errors import ConfigError, one_line
from archsim.hardware.former_keys import FORMER_KEYS

Value = float | int | str | bool | None

MAX_LENGTH, MAX_DEPTH = 400, 40

_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {"min": min, "max": max, "abs": abs}


class UndefinedError(ConfigError):
    """An expression has no value for these values of its names, though it may for others."""


@dataclass(frozen=True)
class Expression:
    """A parsed expression: `names` are the dotted names it reads, `former` those it has by names
    of the version before."""

    text: str
    tree: ast.expr = field(compare=False, repr=False)
    names: frozenset[str]
    former: frozenset[str] = frozenset()

    def value(self, names: Mapping[str, Value]) -> Value:
        """Its value; a text with a unit counts in SI units.

        Raises ConfigError where the values do not allow the operation.
        """
        try:
            return _evaluate(self.tree, names)
        except ZeroDivisionError:
            raise UndefinedError(f"expression {self.text!r}: divides by zero") from None
        except (TypeError, OverflowError, ValueError) as error:
            raise ConfigError(f"expression {self.text!r}: {one_line(error, 120)}") from None

    def holds(self, names: Mapping[str, Value]) -> bool:
        """Whether a condition is true; raises ConfigError if it is no condition."""
        value = self.value(names)
        if not isinstance(value, bool):
            raise ConfigError(f"{self.text!r} is no condition: compare, like {self.text} <= 64")
        return value


def parse_expression(text: object, known: list[str]) -> Expression:
    """Read an expression over the names in `known`.

    Raises ConfigError for anything but numbers, texts, known names, arithmetic, comparisons,
    ``and``, ``or``, ``not``, ``in`` a list, ``min``, ``max`` and ``abs``.
    """
    if not isinstance(text, str) or not text.strip():
        raise ConfigError("an expression is a text, like 'array.rows * array.columns <= 8192'")
    shown = one_line(text, 80)
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"expression {shown!r}: longer than {MAX_LENGTH} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConfigError(f"expression {shown!r}: cannot be read; like 'window <= 512'") from None
    former: set[str] = set()
    tree = _with_new_names(tree, former)
    names: set[str] = set()
    _check(tree, shown, known, names, 0)
    return Expression(text.strip(), tree, frozenset(names), frozenset(former))


def _with_new_names(tree: ast.expr, former: set[str]) -> ast.expr:
    """Keys, and words compared with them, by the names of now; adds the old keys to `former`."""

    class Renaming(ast.NodeTransformer):
        def visit_Compare(self, node: ast.Compare) -> ast.AST:
            for each in (node.left, *node.comparators):
                new = FORMER_KEYS.get(_dotted(each) or "")
                if new is not None:
                    for part in ast.walk(node):
                        if isinstance(part, ast.Constant):
                            part.value = new.value(part.value)
            return self.generic_visit(node)

        def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
            dotted = _dotted(node) or ""
            if dotted not in FORMER_KEYS:
                return node
            former.add(dotted)
            return ast.parse(FORMER_KEYS[dotted].key, mode="eval").body

    renamed: ast.expr = Renaming().visit(tree)
    return renamed


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return None if before is None else f"{before}.{node.attr}"
    return None


def _check(node: ast.expr, text: str, known: list[str], names: set[str], depth: int) -> None:
    """Raises ConfigError unless every node is of a kind that `_evaluate` knows."""

    def refuse(what: str) -> ConfigError:
        return ConfigError(f"expression {text!r}: {what}")

    if depth > MAX_DEPTH:
        raise refuse("nested too deeply")
    children: list[ast.expr] = []
    name = _dotted(node)
    if name is not None:
        if name not in known:
            raise refuse(f"unknown name {name!r}{suggestion(name, known)}")
        names.add(name)
    elif isinstance(node, ast.Constant):
        if not isinstance(node.value, bool | int | float | str):
            raise refuse("only numbers, texts, True and False are constants")
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        children = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.UAdd):
        children = [node.operand]
    elif isinstance(node, ast.BoolOp):
        children = list(node.values)
    elif isinstance(node, ast.Compare):
        for operation, right in zip(node.ops, node.comparators, strict=True):
            if type(operation) in _COMPARISONS:
                children.append(right)
            elif isinstance(operation, ast.In | ast.NotIn) and isinstance(
                right, ast.List | ast.Tuple
            ):
                children += right.elts
            else:
                raise refuse("compare with < <= > >= == != or in [..]")
        children.append(node.left)
    elif isinstance(node, ast.Call):
        called = _dotted(node.func)
        if called not in _FUNCTIONS or node.keywords or not node.args:
            raise refuse("calls nothing but min, max and abs")
        if called != "abs" and len(node.args) < 2:
            raise refuse(f"{called} takes two or more values")
        if called == "abs" and len(node.args) != 1:
            raise refuse("abs takes one value")
        children = list(node.args)
    else:
        kind = type(getattr(node, "op", node)).__name__
        raise refuse(f"{kind} is not accepted; use + - * / // %, comparisons, and, or, not")
    for child in children:
        _check(child, text, known, names, depth + 1)


def _constant(value: object) -> Value:
    """A constant; a text that reads as a number with a unit becomes its SI value."""
    if isinstance(value, str) and value[:1] in "+-.0123456789":
        for unit in EXAMPLES:
            try:
                return parse_quantity(value, unit)
            except ValueError:
                continue
    assert isinstance(value, bool | int | float | str)
    return value


def _number(value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return value


def _evaluate(node: ast.expr, names: Mapping[str, Value]) -> Value:
    name = _dotted(node)
    if name is not None:
        return names[name]
    if isinstance(node, ast.Constant):
        return _constant(node.value)
    if isinstance(node, ast.BinOp):
        left, right = (_number(_evaluate(side, names)) for side in (node.left, node.right))
        return _ARITHMETIC[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp):
        value = _evaluate(node.operand, names)
        if isinstance(node.op, ast.Not):
            return not _truth(value)
        return -_number(value) if isinstance(node.op, ast.USub) else _number(value)
    if isinstance(node, ast.BoolOp):
        parts = (_truth(_evaluate(part, names)) for part in node.values)
        return all(parts) if isinstance(node.op, ast.And) else any(parts)
    if isinstance(node, ast.Compare):
        return _compare(node, names)
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    return _FUNCTIONS[node.func.id](*(_number(_evaluate(part, names)) for part in node.args))


def _truth(value: Value) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _compare(node: ast.Compare, names: Mapping[str, Value]) -> bool:
    left = _evaluate(node.left, names)
    for operation, right_node in zip(node.ops, node.comparators, strict=True):
        if isinstance(operation, ast.In | ast.NotIn):
            assert isinstance(right_node, ast.List | ast.Tuple)
            found = any(_same(left, _evaluate(part, names)) for part in right_node.elts)
            if found is isinstance(operation, ast.NotIn):
                return False
            continue
        right = _evaluate(right_node, names)
        if isinstance(operation, ast.Eq | ast.NotEq):
            if _same(left, right) is isinstance(operation, ast.NotEq):
                return False
        elif not _COMPARISONS[type(operation)](_number(left), _number(right)):
            return False
        left = right
    return True


def _same(left: Value, right: Value) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-12)  # "1 GHz" by two ways of reading
    return left == right
