"""The arrows between packages, and the purity of what must be pure: by reading the sources, not by trusting them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repository.sources import PACKAGE, ROOT, parsed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PURE = (
    "paxos",
    "store/queues.py",
    "store/index.py",
    "store/batcher.py",
    "store/idempotence.py",
    "producer/selection.py",
    "producer/batching.py",
    "producer/items.py",
    "consumer/assignment.py",
    "consumer/lanes.py",
    "consumer/cursor_window.py",
    "net/framing.py",
)
"""Values in, values out, time passed in: these run in the simulator as they are (docs/architecture.md)."""

CLAIM = re.compile(r"\bPure\b(?! but)")
"""A module whose docstring says so in its first paragraph is held to its word."""

IMPURE_MODULES = {
    *("twisted", "asyncio", "time", "threading", "_thread", "multiprocessing", "concurrent", "socket"),
    *("select", "selectors", "signal", "subprocess", "os", "secrets", "uuid", "pathlib", "shutil", "tempfile"),
    *("logging", "bsddb3", "berkeleydb"),
}

IMPURE_METHODS = {"now", "utcnow", "today"}
IMPURE_CALLS = {"open", "print", "input", "hash"}

TYPES = re.compile(r"phxqueue\.(proto|config)\b")
"""Where pure modules take messages and settings from, as values; nobody looks further there."""


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every module imported at run time: line and dotted name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        else:
            yield from imports(node)


def module_file(name: str) -> Path | None:
    """The file behind a dotted name of ours, which may end with a name in a module; None for a whole package."""
    path = ROOT.joinpath(*name.split("."))
    candidates = [path.with_suffix(".py"), path.parent.with_suffix(".py")]
    return next((candidate for candidate in candidates if candidate.exists()), None)


def first_paragraph(path: Path) -> str:
    """Of the docstring; without parsing the module, for there are many."""
    _, _, text = path.read_text().partition('"""')
    return text.partition('"""')[0].split("\n\n")[0]


def pure_files() -> list[Path]:
    """The modules named in PURE, those of ours that they import, and so on; and those that claim to be pure."""
    paths = [PACKAGE / name for name in PURE]
    ahead = [file for path in paths for file in ([path] if path.suffix else path.rglob("*.py"))]
    found: set[Path] = set()
    while ahead:
        file = ahead.pop()
        if file not in found and file.exists():
            found.add(file)
            names = [name for _, name in imports(parsed(file)) if name.startswith("phxqueue.")]
            ahead += [path for name in names if not TYPES.match(name) and (path := module_file(name)) is not None]
    return sorted(found | {path for path in PACKAGE.rglob("*.py") if CLAIM.search(first_paragraph(path))})


def impurities(tree: ast.Module) -> list[str]:
    """What keeps this source from giving the same results in every run: one phrase each."""
    return [*_impure_imports(tree), *_impure_expressions(tree)]


def _impure_imports(tree: ast.Module) -> Iterator[str]:
    for line, name in imports(tree):
        if name.startswith("twisted.logger."):
            continue  # A log line decides nothing.
        if name.split(".")[0] in IMPURE_MODULES:
            yield f"line {line}: imports {name}"
        elif name.startswith("phxqueue.") and not TYPES.match(name) and module_file(name) is None:
            yield f"line {line}: imports {name} from a package: name its module, so that it can be seen to be pure"


def _impure_expressions(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        # random.Random(seed) is a value like any other; random.random() reads the process's hidden state.
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "random" and node.attr != "Random":
            yield f"line {node.lineno}: uses random.{node.attr}, which no seed decides"
        if isinstance(node, ast.Call) and _is_impure(node.func):
            yield f"line {node.lineno}: calls {ast.unparse(node.func)}(), which is not the same in every run"


def _is_impure(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return function.attr in IMPURE_METHODS and ast.unparse(function.value).endswith(("datetime", "date"))
    return isinstance(function, ast.Name) and function.id in IMPURE_CALLS


@pytest.mark.parametrize("path", pure_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_module(path: Path) -> None:
    assert impurities(parsed(path)) == []


@pytest.mark.parametrize("name", PURE)
def test_pure_module_is_where_this_list_says(name: str) -> None:
    assert (PACKAGE / name).exists()


def test_what_pure_modules_import_is_looked_at_too() -> None:
    assert PACKAGE / "store" / "columns.py" in pure_files()


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import time", "line 1: imports time"),
        ("from twisted.internet import defer", "line 1: imports twisted.internet.defer"),
        ("def f():\n    import os.path", "line 2: imports os.path"),
        ("import random\nrandom.shuffle([])", "line 2: uses random.shuffle, which no seed decides"),
        ("datetime.now(tz)", "line 1: calls datetime.now(), which is not the same in every run"),
        ("print(1)", "line 1: calls print(), which is not the same in every run"),
    ],
)
def test_impurity_is_found(source: str, problem: str) -> None:
    assert impurities(ast.parse(source)) == [problem]


def test_every_package_has_a_contract_on_who_may_import_it() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    protected = {
        name for contract in contracts if contract["type"] == "protected" for name in contract["protected_modules"]
    }
    packages = {f"phxqueue.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py")}
    assert packages - protected == set()


def test_plugins_import_nothing_heavy() -> None:
    # twistd imports every plugin file to list its commands: each may only name the module to load later.
    files = list((ROOT / "twisted" / "plugins").glob("*.py"))
    assert files
    for path in files:
        names = {name for _, name in imports(parsed(path))}
        assert {
            name for name in names if not name.startswith(("__future__", "twisted.application.service"))
        } == set(), path


def test_the_core_loads_without_the_outside_world() -> None:
    # What a source does not say, a dependency might: look at what is really loaded.
    script = (
        "import sys, phxqueue.paxos, pkgutil, importlib\n"
        "for found in pkgutil.walk_packages(phxqueue.paxos.__path__, 'phxqueue.paxos.'):\n"
        "    importlib.import_module(found.name)\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'twisted', 'asyncio', 'socket'}))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.strip() == "[]"
