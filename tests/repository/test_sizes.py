"""Modules and functions stay small enough to be read in one sitting."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.repository.sources import MODULES, PACKAGE, nodes, parsed

MODULE_LINES = 450
FUNCTION_LINES = 70


def lines_of_functions(path: Path) -> dict[str, int]:
    functions = [node for node in nodes(path) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return {
        f"{function.name} at {function.lineno}": (function.end_lineno or 0) - function.lineno + 1
        for function in functions
    }


def test_modules_are_short() -> None:
    lengths = {path: path.read_text().count("\n") for path in MODULES}
    assert {path: length for path, length in lengths.items() if length > MODULE_LINES} == {}


def test_functions_are_short() -> None:
    long = {
        f"{path.relative_to(PACKAGE)}: {name}": lines
        for path in MODULES
        for name, lines in lines_of_functions(path).items()
        if lines > FUNCTION_LINES
    }
    assert long == {}


def test_modules_say_what_they_are_for() -> None:
    trees = {path: parsed(path) for path in MODULES}
    assert [path for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)] == []
