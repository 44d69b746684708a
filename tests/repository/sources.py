"""The package's sources, each read and parsed once for all the tests that look at them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "phxqueue"
GENERATED = "_pb2.py"
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if not path.name.endswith(GENERATED)]


@cache
def parsed(path: Path) -> ast.Module:
    """Not to be changed."""
    return ast.parse(path.read_text())


@cache
def nodes(path: Path) -> list[ast.AST]:
    """All that is in a module, at whatever depth."""
    return list(ast.walk(parsed(path)))
