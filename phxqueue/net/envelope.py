"""Envelopes on the wire, built and read with as little work per call as Python allows.

An envelope is written as its small fields followed by the field `body`, so a large body is never
copied into a protobuf object: (length, small fields, tag and length of body) make one short piece,
the body itself another. That is an ordinary serialized `Envelope`; any protobuf library reads it.
"""

from __future__ import annotations

from phxqueue.net.framing import LENGTH_BYTES
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.envelope_pb2 import Envelope

REQUEST = int(Envelope.REQUEST)
REPLY = int(Envelope.REPLY)
CANCEL = int(Envelope.CANCEL)
ONE_WAY = int(Envelope.ONE_WAY)
PING = int(Envelope.PING)
PONG = int(Envelope.PONG)

GOODBYE_CALL_ID = 0
"""A REPLY to this id answers no call: it says why the sender is about to close the connection."""

MAX_CALL_ID = (1 << 28) - 1
"""Ids of ours wrap here: few bytes, and an id is not used again before a late reply to it is long gone."""

MAX_DEADLINE_MS = (1 << 32) - 1
OVERHEAD = 32  # most bytes an envelope adds to the body of a request or of an OK reply
MAX_MESSAGE_CHARACTERS = 4096  # of an error text

parse_envelope = Envelope.FromString
"""Envelope of a frame; raises google.protobuf.message.DecodeError."""

_TABLE_SIZE = 1 << 14


def _slow_varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_VARINTS = [_slow_varint(number) for number in range(_TABLE_SIZE)]


def varint(number: int) -> bytes:
    """A protobuf varint."""
    if number < _TABLE_SIZE:
        return _VARINTS[number]
    if number < 1 << 21:
        return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14))
    if number < 1 << 28:
        return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14 & 0x7F | 0x80, number >> 21))
    return _slow_varint(number)


def _frame_head(fields: bytes, body: bytes) -> bytes:
    """Frame length and everything of the envelope but the bytes of the body."""
    size = len(body)
    if size:
        fields += b"\x7a" + varint(size)  # field 15, length-delimited
    return (len(fields) + size).to_bytes(LENGTH_BYTES, "big") + fields


def request_head(call_id: int, method: int, deadline_ms: int, body: bytes) -> bytes:
    """What goes before the body of a REQUEST (kind 0 is the default and not written)."""
    return _frame_head(b"\x10" + varint(call_id) + b"\x18" + varint(method) + b"\x30" + varint(deadline_ms), body)


def one_way_head(method: int, body: bytes) -> bytes:
    """What goes before the body of a ONE_WAY."""
    return _frame_head(b"\x08\x03\x18" + varint(method), body)


def reply_head(call_id: int, body: bytes) -> bytes:
    """What goes before the body of an OK REPLY."""
    return _frame_head(b"\x08\x01\x10" + varint(call_id), body)


def error_frame(call_id: int, error: RpcError) -> bytes:
    """A whole frame: the REPLY that carries an error."""
    envelope = Envelope(
        kind=Envelope.REPLY,
        call_id=call_id,
        status=int(error.status),
        message=error.message[:MAX_MESSAGE_CHARACTERS],
        retry_after_ms=max(0, min(error.retry_after_ms, MAX_DEADLINE_MS)),
        redirect=error.redirect,
    )
    return _frame_head(envelope.SerializeToString(), b"")


def cancel_frame(call_id: int) -> bytes:
    """A whole frame: CANCEL."""
    return _frame_head(b"\x08\x02\x10" + varint(call_id), b"")


def keepalive_frame(kind: int, call_id: int, max_frame: int) -> bytes:
    """A whole frame: PING or PONG. The body tells the largest frame the sender accepts (4 bytes, big-endian)."""
    body = max_frame.to_bytes(LENGTH_BYTES, "big")
    return _frame_head(b"\x08" + varint(kind) + b"\x10" + varint(call_id), body) + body


def max_frame_of(envelope: Envelope) -> int | None:
    """The largest frame the sender of a PING or PONG accepts; None = it does not say."""
    body = envelope.body
    return int.from_bytes(body, "big") or None if len(body) == LENGTH_BYTES else None


def error_of(envelope: Envelope) -> RpcError:
    """The error a REPLY carries; a status this version does not know reads as INTERNAL."""
    status = Status.from_wire(envelope.status)
    message = envelope.message
    if status == Status.INTERNAL and envelope.status != Status.INTERNAL:
        message = f"status {envelope.status} of a newer protocol: {message}"
    return RpcError(status, message, retry_after_ms=envelope.retry_after_ms, redirect=envelope.redirect)
