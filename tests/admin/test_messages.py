"""Cutting input into messages: whatever the pieces it comes in, the messages are the same."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.admin.messages import LengthPrefixSplitter, LineSplitter, MalformedInput, Numbered, TooLong

LIMIT = 20


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


def split(splitter: LineSplitter | LengthPrefixSplitter, pieces: list[bytes]) -> list[Numbered | TooLong]:
    found = [message for piece in pieces for message in splitter.feed(piece)]
    return [*found, *splitter.finish()]


cuts = st.lists(st.integers(0, 1000), max_size=10)
contents = st.binary(max_size=30).filter(lambda line: b"\n" not in line and not line.endswith(b"\r"))


def expected(messages: list[bytes]) -> list[Numbered | TooLong]:
    return [
        Numbered(number, content) if len(content) <= LIMIT else TooLong(number, len(content))
        for number, content in enumerate(messages, 1)
    ]


@given(st.lists(contents, max_size=10), cuts)
def test_lines(lines: list[bytes], cuts: list[int]) -> None:
    data = b"".join(line + b"\n" for line in lines)
    assert split(LineSplitter(LIMIT), pieces_of(data, cuts)) == expected(lines)


@given(st.lists(contents, max_size=10), cuts)
def test_lines_of_windows(lines: list[bytes], cuts: list[int]) -> None:
    data = b"".join(line + b"\r\n" for line in lines)
    found = split(LineSplitter(LIMIT), pieces_of(data, cuts))
    assert [m.content for m in found if isinstance(m, Numbered)] == [line for line in lines if len(line) <= LIMIT]
    assert [m.number for m in found] == list(range(1, len(lines) + 1))


@given(st.lists(st.binary(max_size=30), max_size=10), cuts)
def test_length_prefixed(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(struct.pack(">I", len(content)) + content for content in messages)
    assert split(LengthPrefixSplitter(LIMIT), pieces_of(data, cuts)) == expected(messages)


def test_the_last_line_needs_no_line_end() -> None:
    assert split(LineSplitter(LIMIT), [b"a\nb"]) == [Numbered(1, b"a"), Numbered(2, b"b")]


def test_an_endless_line_is_not_kept() -> None:
    splitter = LineSplitter(LIMIT)
    for _ in range(1000):
        assert list(splitter.feed(b"x" * 1000)) == []
        assert splitter._held <= LIMIT + 1
    assert list(splitter.feed(b"\nok\n")) == [TooLong(1, 1_000_000), Numbered(2, b"ok")]


@pytest.mark.parametrize("tail", [b"\0", b"\0\0\0\x05abcd", b"\0\1\0\0" + b"x" * 100])
def test_input_that_ends_within_a_message(tail: bytes) -> None:
    splitter = LengthPrefixSplitter(LIMIT)
    list(splitter.feed(struct.pack(">I", 2) + b"ok" + tail))
    with pytest.raises(MalformedInput, match="in the middle of message 2"):
        splitter.finish()
