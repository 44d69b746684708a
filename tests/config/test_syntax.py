"""Reading text: what a file may look like, and where what it says stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.config.syntax import MAX_DEPTH, MAX_FILE_BYTES, Document, parse_document, read_document


def parse(text: str | bytes) -> Document:
    return parse_document(Path("x.conf"), text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-7", -7),
        ("007", "007"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("'7'", "7"),
        ('"true"', "true"),
        ("~", None),
        ("null", None),
        ("", None),
        ("=", "="),
        ("[1, x,]", [1, "x"]),
        ("{b: 1,}", {"b": 1}),
        ("<<", "<<"),
    ],
)
def test_a_value_is_what_was_written(text: str, value: object) -> None:
    document = parse(f"a: {text}\n")
    assert document.problems == []
    assert document.root == {"a": value}


def test_every_field_and_element_knows_its_line() -> None:
    document = parse("# one\na:\n  - b: 1\n    c: [1,\n      2]\nd: {\n e: 3 }\n")
    lines = {
        ("a",): 2,
        ("a", 0): 3,
        ("a", 0, "b"): 3,
        ("a", 0, "c"): 4,
        ("a", 0, "c", 1): 5,
        ("d", "e"): 7,
    }
    assert {path: document.line(path) for path in lines} == lines
    assert document.line(("d", "absent")) == 6, "what is absent is missing from the section around it"


def test_json_with_trailing_commas_and_tabs() -> None:
    document = parse('{\n\t"a": [\n\t\t{"b":"1",},\n\t],\n}')
    assert document.problems == []
    assert document.root == {"a": [{"b": "1"}]}
    assert document.line(("a", 0, "b")) == 3


def test_byte_order_mark_and_comments() -> None:
    assert parse("﻿# hello\na: 1 # there\n").root == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 0, "is empty"),
        ("# nothing\n", 0, "is empty"),
        ("- 1\n", 1, "does not begin with a field"),
        ("hello\n", 1, "does not begin with a field"),
        ("a: 1\nb: [1,\n 2\nc: 3\n", 4, "flow sequence that begins in line 2"),
        ("a: 1\nb: {\n", 3, "malformed"),
        ("a: b: c\n", 1, "mapping values are not allowed here"),
        ("a:\n\tb: 1\n", 2, "a tab; indent with spaces"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("a: &x 1\n", 1, "anchors and aliases are not allowed"),
        ("a: *x\n", 1, "anchors and aliases are not allowed"),
        ("a: !!python/object:os.system 1\n", 1, "tags (!...) are not allowed"),
        ("a: !x [1]\n", 1, "tags (!...) are not allowed"),
        ("a:\n " + "[" * (MAX_DEPTH + 1), 2, f"more than {MAX_DEPTH} levels"),
        ("a: 1\nb: \x01\n", 2, r"control character '\x01'"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8"),
        (b"a" * (MAX_FILE_BYTES + 1), 0, "larger than 4 MiB"),
    ],
)
def test_malformed_text_is_one_problem_with_its_line(text: str | bytes, line: int, said: str) -> None:
    document = parse(text)
    assert document.root is None
    [problem] = document.problems
    assert problem.line == line
    assert said in problem.found
    assert "\n" not in str(problem)


def test_repeated_field() -> None:
    document = parse("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n")
    [problem] = document.problems
    assert (problem.line, problem.field) == (5, "b.c")
    assert "first in line 3" in problem.found
    assert document.root == {"a": 1, "b": {"c": 1, "d": 2}}


def test_field_name_that_is_no_text() -> None:
    document = parse("a: 1\n[b]: 2\n")
    [problem] = document.problems
    assert "field name" in problem.found


def test_strange_field_names_stay_on_one_line() -> None:
    document = parse('"a\\nb": {c: 1, c: 2}\n')
    assert str(document.problems[0]).startswith(f'{document.file}:1: "a\\nb".c: given twice')


def test_unreadable_files(tmp_path: Path) -> None:
    [absent] = read_document(tmp_path / "absent.conf").problems
    assert "No such file" in absent.found
    [directory] = read_document(tmp_path).problems
    assert "is a directory" in directory.found


@given(st.binary(max_size=200))
def test_any_bytes_give_a_document_or_a_problem(data: bytes) -> None:
    document = parse(data)
    assert (document.root is None) <= bool(document.problems)


@given(st.text(alphabet="ab:- \n[]{},\"'#&*!|>%@`\t\\0", max_size=120))
def test_any_yaml_like_text_gives_a_document_or_a_problem(text: str) -> None:
    document = parse(text)
    assert (document.root is None) <= bool(document.problems)
    assert all("\n" not in str(problem) for problem in document.problems)
