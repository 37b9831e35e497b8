"""Which code a stored result depends on: every module reachable by imports, and its hash.

What an import can reach is read from the source, so that no list has to be kept: a module that
computes, however indirectly, is part of the key from its first line on. A package that is named in
a text (``declare("cell", "cell.model", "archsim.chip.cells")``) has its modules imported by name:
all of them count.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The package `archsim`."""


def code_sha256(module: str, root: Path = ROOT) -> str:
    """16 hex digits over the source of a module and of all that it imports inside the package."""
    digest = hashlib.sha256()
    for path in reached(module, root):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@functools.cache
def reached(module: str, root: Path = ROOT) -> tuple[Path, ...]:
    """Source files of a module and of every module that it imports, at any depth, in order.

    Imports inside functions count, those for type checkers alone do not; a text that names a
    package stands for all modules in it, as that of a slot. The package's own ``__init__.py`` only
    gives names to what lies behind it.
    """
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        path = _source(waiting.pop(), root)
        if path is not None and path not in found:
            found.add(path)
            waiting += _imported(path, root)
    return tuple(sorted(found))


def _source(module: str, root: Path) -> Path | None:
    """The file of a dotted name; None outside the package, or for a name that is no module."""
    top, *parts = module.split(".")
    if top != root.name or not parts:
        return None
    path = root.joinpath(*parts)
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((each for each in candidates if each.is_file()), None)


def _imported(path: Path, root: Path) -> Iterator[str]:
    """Dotted names that a file imports, and the packages on the way to each."""
    package = (root.name, *path.parent.relative_to(root).parts)
    for node in _nodes(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            home = ".".join([*base, *([node.module] if node.module else [])])
            names = [home, *(f"{home}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = _modules(node.value, root)
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:count]) for count in range(2, len(parts) + 1))


def _modules(name: str, root: Path) -> list[str]:
    """Dotted names of the modules of the package that a text names, if it names one."""
    if not all(part.isidentifier() for part in name.split(".")):
        return []
    path = _source(name, root)
    if path is None or path.name != "__init__.py":
        return []
    return [name, *(f"{name}.{each.stem}" for each in path.parent.glob("*.py"))]


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those in ``if TYPE_CHECKING:``."""
    for child in ast.iter_child_nodes(tree):
        yield child
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from _nodes(other)
        else:
            yield from _nodes(child)
