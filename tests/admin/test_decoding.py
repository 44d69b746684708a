"""What `--decode` makes of bytes, whatever they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.admin.decoding import DECODERS, decoder
from phxqueue.admin.errors import AdminError
from phxqueue.proto.item_pb2 import Cookie

PROTO = "proto:phxqueue.proto.item_pb2.Cookie"


def test_text_leaves_the_terminal_alone() -> None:
    assert decoder("text")("zwölf\n\tfoo".encode()) == ["zwölf", "\tfoo"]
    assert decoder("text")(b"\x1b[31m red \xff") == ["\\x1b[31m red \\xff"]


def test_json_is_indented_and_what_is_none_says_so() -> None:
    assert decoder("json")(b'{"a": [1]}') == ["{", '  "a": [', "    1", "  ]", "}"]
    first, second = decoder("json")(b"{oops")
    assert first.startswith("(not JSON: ")
    assert second == "{oops"
    assert decoder("json")(b"[" * 100_000)[0].startswith("(not JSON: ")


def test_hex_shows_offsets_and_readable_bytes() -> None:
    assert decoder("hex")(b"") == ["(empty)"]
    first, second = decoder("hex")(bytes(range(60, 77)))
    assert first.startswith("00000000  3c 3d 3e")
    assert first.endswith(" <=>?@ABCDEFGHIJK")
    assert second.startswith("00000010  4c ")


def test_protobuf_messages_by_class() -> None:
    assert decoder(PROTO)(Cookie(key="k", value=b"v").SerializeToString()) == ['key: "k"', 'value: "v"']
    first, *rest = decoder(PROTO)(b"\xff")
    assert first.startswith("(not a Cookie: ")
    assert rest == decoder("hex")(b"\xff")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("xml", "write text, json, hex or proto:module.Message"),
        ("proto:Order", "name a module and a message class"),
        ("proto:no_such_module.Order", "is its directory on PYTHONPATH"),
        ("proto:phxqueue.proto.item_pb2.Nothing", "has no protobuf message class Nothing"),
        ("proto:phxqueue.admin.errors.AdminError", "has no protobuf message class AdminError"),
    ],
)
def test_what_is_no_decoder(name: str, why: str) -> None:
    with pytest.raises(AdminError, match=why):
        decoder(name)


@given(st.binary(max_size=200), st.sampled_from([*DECODERS, PROTO]))
def test_no_bytes_are_too_strange(buffer: bytes, name: str) -> None:
    lines = decoder(name)(buffer)
    assert lines
    assert all("\x1b" not in line and "\n" not in line for line in lines)
