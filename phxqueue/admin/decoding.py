"""What `--decode` makes of a message: text, JSON, a hex dump, or the fields of a protobuf message."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable

from google.protobuf.message import DecodeError, Message
from google.protobuf.text_format import MessageToString

from phxqueue.admin.errors import AdminError

Decoder = Callable[[bytes], list[str]]
"""Turns a message into lines to print; never raises on bytes that do not fit, but says so."""

HEX_LINE_BYTES = 16


def decoder(name: str) -> Decoder:
    """Return the decoder of a name: `text`, `json`, `hex`, or `proto:module.Message`.

    Raises:
        AdminError: no such decoder, module or message class.
    """
    if name.startswith("proto:"):
        return _proto_decoder(name.removeprefix("proto:"))
    if name not in DECODERS:
        raise AdminError(f"--decode {name}: write {', '.join(DECODERS)} or proto:module.Message")
    return DECODERS[name]


def as_text(buffer: bytes) -> list[str]:
    """Lines of text; what is not UTF-8, and control characters, as escapes that leave the terminal alone."""
    return [_printable(line) for line in buffer.decode(errors="backslashreplace").split("\n")]


def as_json(buffer: bytes) -> list[str]:
    """A JSON document, indented."""
    try:
        document = json.loads(buffer)
    except (ValueError, RecursionError) as error:
        return [f"(not JSON: {error})", *as_text(buffer)]
    return json.dumps(document, indent=2, ensure_ascii=True).split("\n")


def as_hex(buffer: bytes) -> list[str]:
    """Offset, bytes in hexadecimal, and the printable ASCII among them."""
    lines = []
    for offset in range(0, len(buffer), HEX_LINE_BYTES):
        piece = buffer[offset : offset + HEX_LINE_BYTES]
        readable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        lines.append(f"{offset:08x}  {piece.hex(' '):<{HEX_LINE_BYTES * 3}} {readable}")
    return lines or ["(empty)"]


DECODERS: dict[str, Decoder] = {"text": as_text, "json": as_json, "hex": as_hex}


def _proto_decoder(path: str) -> Decoder:
    module_name, _, class_name = path.rpartition(".")
    if not module_name:
        raise AdminError(f"--decode proto:{path}: name a module and a message class, as in proto:orders_pb2.Order")
    try:
        kind = getattr(importlib.import_module(module_name), class_name, None)
    except ImportError as error:
        raise AdminError(f"--decode proto:{path}: {error}; is its directory on PYTHONPATH?") from error
    if not (isinstance(kind, type) and issubclass(kind, Message)):
        raise AdminError(f"--decode proto:{path}: {module_name} has no protobuf message class {class_name}")

    def as_message(buffer: bytes) -> list[str]:
        message = kind()
        try:
            message.ParseFromString(buffer)
        except DecodeError as error:
            return [f"(not a {class_name}: {error})", *as_hex(buffer)]
        return MessageToString(message).rstrip("\n").split("\n")

    return as_message


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else _escaped(char) for char in line)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()
