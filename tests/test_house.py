"""Rules of the house that no tool checks: sizes of files and functions, no circle of imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import grimp

PACKAGE = Path(__file__).parents[1] / "archsim"
FILE_LINES, FUNCTION_LINES = 400, 80


def sources() -> dict[str, str]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return {p.relative_to(PACKAGE).as_posix(): p.read_text("utf-8") for p in paths}


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether click calls it: its options make it long."""
    return any(
        ast.unparse(each).split("(")[0].endswith(("command", "group"))
        for each in function.decorator_list
    )


def functions(text: str) -> Iterator[tuple[str, int]]:
    """Names of functions that are no commands, and their lines with decorators."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_command(node):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            yield node.name, (node.end_lineno or 0) - first + 1


def test_no_file_is_too_long() -> None:
    long = {name for name, text in sources().items() if len(text.splitlines()) > FILE_LINES}
    assert long == set()


def test_no_function_is_too_long() -> None:
    long = {
        f"{name}: {function}"
        for name, text in sources().items()
        for function, lines in functions(text)
        if lines > FUNCTION_LINES
    }
    assert long == set()


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules each of which reaches every other one of its group."""
    reached: dict[str, set[str]] = {}
    for start in imports:
        found, waiting = set[str](), [*imports[start]]
        while waiting:
            module = waiting.pop()
            if module not in found:
                found.add(module)
                waiting += imports[module]
        reached[start] = found
    groups = {
        frozenset(other for other in found if start in reached[other])
        for start, found in reached.items()
        if start in found
    }
    return sorted((set(group) for group in groups), key=sorted)


def test_no_modules_import_each_other() -> None:
    """Imports inside functions count, those for type checkers do not."""
    graph = grimp.build_graph("archsim", exclude_type_checking_imports=True, cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(imports) > 200
    assert circles(imports) == []


def test_a_circle_would_be_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert circles(graph) == [{"a", "b", "c"}, {"d", "e"}]


def test_a_long_function_would_be_found() -> None:
    body = "    x = 1\n" * 90
    found = dict(
        functions(f"@decorated\ndef long():\n{body}\n@click.command('x')\ndef run():\n{body}")
    )
    assert found == {"long": 92}


def test_how_a_computer_runs_it_knows_nothing_of_what_runs() -> None:
    graph = grimp.build_graph("archsim", exclude_type_checking_imports=True, cache_dir=None)
    known = {"archsim.errors", "archsim.files"}
    for module in sorted(graph.find_descendants("archsim.machine")):
        outside = graph.find_modules_directly_imported_by(module) - known
        assert all(name.startswith("archsim.machine") for name in outside)
