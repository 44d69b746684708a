"""What the documentation names exists: files, make targets, packages, commands, and what its examples import."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("", "docs", "docs/decisions", "docs/operations", "contrib/systemd", "newsfragments", "etc", "benchmarks")
PAGES = [page for folder in FOLDERS for page in sorted((ROOT / folder).glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_blocks(path: Path, language: str) -> list[str]:
    return [text for found, text in FENCE.findall(path.read_text()) if found == language]


def test_there_are_pages() -> None:
    assert {"README.md", "docs/architecture.md", "docs/operations.md"} <= set(map(named, PAGES))


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    text = FENCE.sub("", path.read_text())
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert [target for target in targets if target and not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_files_and_folders_named_exist(path: Path) -> None:
    names = re.findall(r"`((?:phxqueue|tests|docs|contrib|etc|benchmarks|twisted)/[\w./@-]*)`", path.read_text())
    assert [name for name in names if not (ROOT / name).exists() and not (path.parent / name).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_make_targets_named_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = path.read_text()
    mentioned = set(re.findall(r"`make\s+([a-z-]+)[`\s]", text)) | set(
        re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)
    )
    assert mentioned - targets == set()


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_commands_named_exist(path: Path) -> None:
    from phxqueue.admin.main import COMMANDS

    assert set(re.findall(r"(?:`|bin/)phxqueue ([a-z]+)", path.read_text())) - set(COMMANDS) == set()


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_examples_import_what_exists(path: Path) -> None:
    for block in code_blocks(path, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == [], node.module


def test_architecture_describes_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    packages = {path.parent.name for path in (ROOT / "phxqueue").glob("*/__init__.py")}
    assert {name for name in packages if f"| `{name}` |" not in text} == set()


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "index.md").read_text()
    assert [path.name for path in sorted(folder.glob("0*.md")) if path.name not in index] == []


def test_the_example_of_a_test_is_one_that_runs() -> None:
    example = (ROOT / "tests/testing/test_application_example.py").read_text()
    assert any(block.strip() in example for block in code_blocks(ROOT / "docs/api.md", "python") if "settle" in block)


def test_the_examples_of_handlers_are_ones_that_run() -> None:
    examples = (ROOT / "tests/testing/test_handler_examples.py").read_text()
    blocks = [
        block
        for block in code_blocks(ROOT / "docs/api.md", "python")
        if "def handle_batch" in block or "def before" in block
    ]
    assert len(blocks) == 2
    assert all(block.strip() in examples for block in blocks)


def test_every_guarantee_names_tests_that_exist() -> None:
    text = (ROOT / "docs/guarantees.md").read_text()
    promises = [line for line in text.split("## What is not")[0].splitlines() if line.startswith("| **")]
    assert len(promises) > 10
    for promise in promises:
        named_tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promise)
        assert named_tests, promise
        for file, function in named_tests:
            assert f"def {function}(" in (ROOT / file).read_text(), f"{file} has no {function}"
