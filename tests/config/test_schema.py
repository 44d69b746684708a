"""Values against models: what is converted, what is refused, and how that is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.config.fields import Decimal, Flag, HandlerPath, Host, Name, PathText, Port, Range, Text, Whole, setting
from phxqueue.config.schema import Block, validate
from phxqueue.config.syntax import Document, parse_document


class Inner(Block):
    number: Whole = setting(meaning="required", ge=1, le=9)


class Sample(Block):
    whole: Whole = setting(1, ge=-5, le=1000)
    decimal: Decimal = setting(1.0, ge=0, le=1e6)
    flag: Flag = setting(False)
    text: Text = setting("")
    path: PathText = setting("x")
    name: Name = setting("x")
    host: Host = setting("localhost")
    port: Port = setting(1)
    queues: Range = setting("0")
    handler: HandlerPath = setting("a:b")
    word: Literal["one", "two"] = setting("one")
    ports: tuple[Port, ...] = setting(())
    table: dict[Port, Name] = setting({})
    inner: Inner = setting(Inner(number=1))
    inners: tuple[Inner, ...] = setting(())
    later: Whole = setting(0, pending="moon")

    obsolete: ClassVar[dict[str, str]] = {"old": "nobody needs it"}


def check(text: str) -> tuple[Sample | None, Document]:
    document = parse_document(Path("x.conf"), text.encode())
    return validate(Sample, document), document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("whole: 7", 7),
        ('whole: "7"', 7),
        ("whole: '-5'", -5),
        ("whole: 1_000", 1000),
        ("decimal: 2", 2.0),
        ('decimal: "2.5"', 2.5),
        ("decimal: 1e3", 1000.0),
        ("flag: true", True),
        ("flag: 0", False),
        ('flag: "1"', True),
        ('text: "12"', "12"),
        ("name: a-b_c.d", "a-b_c.d"),
        ("host: 10.0.0.1", "10.0.0.1"),
        ("host: '2001:DB8:0::1'", "2001:db8::1"),
        ("host: store-1.example.org", "store-1.example.org"),
        ("queues: 7", "7"),
        ("queues: 0-4", "0-4"),
        ("handler: shop.orders:Handler.make", "shop.orders:Handler.make"),
        ("word: two", "two"),
        ('ports: ["1", 2]', (1, 2)),
    ],
)
def test_accepted(text: str, value: object) -> None:
    sample, document = check(text)
    assert document.problems == []
    assert sample is not None
    assert getattr(sample, text.partition(":")[0]) == value


@pytest.mark.parametrize(
    "text",
    [
        "whole: true",
        "whole: yes",
        "whole: 1.0",
        "whole: 1.5",
        "whole: 007",
        "whole: 0x10",
        'whole: ""',
        'whole: " 7"',
        "whole: 1001",
        "whole: -6",
        "whole: [1]",
        "whole: {a: 1}",
        f"whole: {'9' * 5000}",
        "decimal: true",
        "decimal: .nan",
        "decimal: 1e999",
        f"decimal: {'9' * 500}",
        "decimal: -0.1",
        "flag: yes",
        'flag: "true"',
        "flag: 2",
        "flag: 1.0",
        "text: 12",
        "text: true",
        'path: ""',
        'path: "a\\0b"',
        "name: a b",
        "name: 1",
        'name: ""',
        "name: ../x",
        "host: 300.1.1.1",
        "host: 10.0.0",
        "host: a_b..c",
        "host: -a.b",
        "host: 10.0.0.1:80",
        "port: 0",
        "port: 65536",
        "queues: 4-0",
        "queues: 0-4 10-12",
        "queues: -1",
        "queues: a-b",
        "queues: 1-",
        "queues: 1.5",
        "handler: nocolon",
        "handler: a:b:c",
        "handler: a b:c",
        "word: three",
        "ports: 7",
        "table: [1]",
        "table: {x: y}",
        "table: {1: 2}",
        "inner: 3",
        "inner: {number: 0}",
        "inner: {}",
        "inners: {number: 1}",
        "inners: [3]",
    ],
)
def test_refused_with_place_and_what_is_allowed(text: str) -> None:
    _, document = check("# a comment\n" + text)
    [problem] = document.problems
    assert problem.line == 2
    assert problem.field.startswith(text.partition(":")[0])
    assert problem.found.startswith(("found ", "missing"))
    assert problem.allowed
    assert not problem.warning
    assert len(str(problem)) < 300


def test_what_is_allowed_is_said_with_its_bounds() -> None:
    _, document = check("port: 0\nports: [1, x]\nword: three\ntable: {70000: a}\ninner: {number: 10}")
    assert {problem.field: (problem.found, problem.allowed) for problem in document.problems} == {
        "port": ("found 0", "a whole number from 1 to 65535"),
        "ports[1]": ('found "x"', "a whole number from 1 to 65535"),
        "word": ('found "three"', "one of one, two"),
        "table.70000": ('found "70000"', "a whole number from 1 to 65535"),
        "inner.number": ("found 10", "a whole number from 1 to 9"),
    }


def test_unknown_fields_with_a_guess() -> None:
    _, document = check("wholes: 1\nhandlerPath: 2\ninner: {number: 1, numbr: 2}\nqwertzuiop: 3")
    said = {problem.field: problem.remedy or problem.allowed for problem in document.problems}
    assert said["wholes"] == 'did you mean "whole"?'
    assert said["handlerPath"] == 'did you mean "handler"?'
    assert said["inner.numbr"] == 'did you mean "number"?'
    assert "decimal, flag" in said["qwertzuiop"]
    assert all(problem.found == "unknown field" and not problem.warning for problem in document.problems)


def test_obsolete_and_pending_fields_are_warnings() -> None:
    sample, document = check("old: 1\nlater: 3\n")
    assert sample is not None
    assert sample.later == 3
    assert [(problem.field, problem.warning) for problem in document.problems] == [("old", True), ("later", True)]
    assert "nobody needs it" in str(document.problems[0])
    assert "this version has no moon" in str(document.problems[1])


def test_a_field_without_a_value() -> None:
    sample, document = check("whole:\nflag: null\ninner: {number: }")
    assert sample is None, "inner.number is required"
    assert [problem.field for problem in document.problems] == ["whole", "flag", "inner.number"]
    assert all(problem.found == "no value" for problem in document.problems)


def test_missing_fields() -> None:
    sample, document = check("inners:\n- number: 1\n- {}\n")
    assert sample is None
    [problem] = document.problems
    assert (problem.line, problem.field, problem.found) == (3, "inners[1].number", "missing")


def test_what_can_be_used_is_used_for_further_checks() -> None:
    sample, document = check("whole: x\nport: 7\nports: [1, x, 3, y, 5]\ntable: {1: a, x: b, 3: [c], 4: d}\n")
    assert sample is not None
    assert (sample.whole, sample.port, sample.ports, sample.table) == (1, 7, (1, 3, 5), {1: "a", 4: "d"})
    assert len(document.problems) == 5


def test_lines_follow_elements_that_move_up() -> None:
    _, document = check("ports:\n- x\n- 2\n- y\n- 4\n")
    assert document.root == {"ports": [2, 4]}
    assert [document.line(("ports", index)) for index in range(2)] == [3, 5]


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*Sample.model_fields, "old", "other"]), values, max_size=6))
def test_any_values_give_a_model_or_a_problem(content: dict[str, Any]) -> None:
    sample, document = check(json.dumps(content))
    assert sample is not None or document.problems
    for problem in document.problems:
        assert "\n" not in str(problem)
        assert problem.line == 1
