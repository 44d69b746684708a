from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.net import envelope as e
from phxqueue.net.framing import FrameDecoder
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.envelope_pb2 import Envelope

call_ids = st.integers(1, e.MAX_CALL_ID)
bodies = st.binary(max_size=300) | st.integers(1, 40_000).map(bytes)


def read(data: bytes) -> Envelope:
    [frame] = FrameDecoder(1 << 20).feed(data)
    return e.parse_envelope(frame)


@given(call_ids, st.integers(1, 5000), st.integers(1, e.MAX_DEADLINE_MS), bodies)
def test_a_request_reads_as_an_ordinary_envelope(call_id: int, method: int, deadline_ms: int, body: bytes) -> None:
    head = e.request_head(call_id, method, deadline_ms, body)
    assert read(head + body) == Envelope(call_id=call_id, method=method, deadline_ms=deadline_ms, body=body)
    assert len(head) <= e.OVERHEAD


@given(call_ids, bodies)
def test_a_reply_reads_as_an_ordinary_envelope(call_id: int, body: bytes) -> None:
    head = e.reply_head(call_id, body)
    assert read(head + body) == Envelope(kind=Envelope.REPLY, call_id=call_id, body=body)
    assert len(head) <= e.OVERHEAD


@given(st.integers(1, 5000), bodies)
def test_a_one_way_message_reads_as_an_ordinary_envelope(method: int, body: bytes) -> None:
    assert read(e.one_way_head(method, body) + body) == Envelope(kind=Envelope.ONE_WAY, method=method, body=body)


@given(st.integers(0, (1 << 64) - 1))
def test_varint_is_protobufs(number: int) -> None:
    encoded = Envelope(call_id=number).SerializeToString()
    assert encoded == (b"\x10" + e.varint(number) if number else b"")


def test_control_frames() -> None:
    assert read(e.cancel_frame(7)) == Envelope(kind=Envelope.CANCEL, call_id=7)
    ping = read(e.keepalive_frame(e.PING, 3, 1 << 26))
    assert (ping.kind, ping.call_id, e.max_frame_of(ping)) == (Envelope.PING, 3, 1 << 26)
    assert e.max_frame_of(Envelope(kind=Envelope.PONG)) is None
    assert e.max_frame_of(Envelope(kind=Envelope.PONG, body=b"\0\0\0\0")) is None


@given(
    st.sampled_from([status for status in Status if status]),
    st.text(max_size=50),
    st.integers(0, 1 << 33),
    st.sampled_from(["", "127.0.0.1:5101"]),
)
def test_errors_survive_the_wire(status: Status, message: str, retry_after_ms: int, redirect: str) -> None:
    sent = RpcError(status, message, retry_after_ms=retry_after_ms, redirect=redirect)
    envelope = read(e.error_frame(5, sent))
    received = e.error_of(envelope)
    assert (envelope.kind, envelope.call_id) == (Envelope.REPLY, 5)
    assert (received.status, received.message, received.redirect) == (status, message, redirect)
    assert received.retry_after_ms == min(retry_after_ms, e.MAX_DEADLINE_MS)


def test_long_messages_are_cut() -> None:
    assert len(e.error_of(read(e.error_frame(5, RpcError(Status.INTERNAL, "x" * 100_000)))).message) == 4096


@pytest.mark.parametrize("number", [16, 999])
def test_a_status_of_a_newer_protocol_is_told_as_such(number: int) -> None:
    error = e.error_of(Envelope(kind=Envelope.REPLY, status=number, message="new"))
    assert error.status is Status.INTERNAL
    assert str(number) in error.message
