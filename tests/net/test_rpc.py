"""Calls over a wire in memory, under a clock that only moves when told."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, succeed

from phxqueue.net.address import Address
from phxqueue.net.envelope import OVERHEAD, parse_envelope
from phxqueue.net.framing import FrameDecoder, encode_frame
from phxqueue.net.identity import ANONYMOUS, Identity
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.settings import RpcSettings
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.envelope_pb2 import Envelope
from phxqueue.proto.methods import ADD, GET, NODE_STATUS, PEER_FRAME, Method
from phxqueue.proto.paxos_pb2 import PeerFrame
from phxqueue.proto.status_pb2 import NodeStatusRequest
from phxqueue.proto.store_pb2 import AddRequest, AddResponse, GetRequest, GetResponse
from tests.conftest import LoggedErrors
from tests.net.wire import CLIENT, SERVER, Wire


class Server:
    """A service whose handlers note what they are asked; GET answers when told."""

    def __init__(self) -> None:
        self.service = RpcService("test server")
        self.gets: list[tuple[GetRequest, CallContext, Deferred[GetResponse]]] = []
        self.adds = 0
        self.frames: list[PeerFrame] = []
        self.cancelled = 0
        self.service.register(ADD, self.add)
        self.service.register(GET, self.get)
        self.service.register_one_way(PEER_FRAME, self.frame)

    def add(self, request: AddRequest, context: CallContext) -> AddResponse:
        self.adds += 1
        response = AddResponse()
        response.results.add(first_cursor=request.store_id)
        return response

    def get(self, request: GetRequest, context: CallContext) -> Deferred[GetResponse]:
        answer: Deferred[GetResponse] = Deferred(self.count_cancel)
        self.gets.append((request, context, answer))
        return answer

    def count_cancel(self, _: object) -> None:
        self.cancelled += 1

    def frame(self, request: PeerFrame, context: CallContext) -> None:
        self.frames.append(request)

    def answer(self, number: int) -> None:
        request, _, answer = self.gets[number]
        answer.callback(GetResponse(next_cursor=request.next_cursor))


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def wire(server: Server) -> Wire:
    wire = Wire(server.service)
    wire.pump()
    assert wire.ready
    return wire


def outcome(call: Deferred[Any]) -> list[Any]:
    """Where the result will appear: a response, or an error."""
    results: list[Any] = []
    call.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results


def get(wire: Wire, cursor: int = 0, timeout: float = 10.0) -> Deferred[GetResponse]:
    return wire.client.call(GET, GetRequest(next_cursor=cursor), timeout)


def only_error(results: list[Any]) -> RpcError:
    [error] = results
    assert isinstance(error, RpcError)
    return error


# ---- calls -------------------------------------------------------------------------------------------------


def test_a_call_that_is_answered_at_once(wire: Wire) -> None:
    results = outcome(wire.client.call(ADD, AddRequest(store_id=7), 1.0))
    wire.pump()
    assert results[0].results[0].first_cursor == 7
    assert wire.client.in_flight == wire.server.answering == 0


def test_answers_come_in_any_order(server: Server, wire: Wire) -> None:
    calls = [outcome(get(wire, cursor)) for cursor in range(3)]
    wire.pump()
    for number in (2, 0, 1):
        server.answer(number)
    wire.pump()
    assert [call[0].next_cursor for call in calls] == [0, 1, 2]


def test_both_ends_can_call(server: Server) -> None:
    other = Server()
    wire = Wire(server.service, client_service=other.service)
    wire.pump()
    results = outcome(wire.server.call(ADD, AddRequest(store_id=9), 1.0))
    wire.pump()
    assert results[0].results[0].first_cursor == 9
    assert (server.adds, other.adds) == (0, 1)


def test_many_calls_in_one_turn_leave_in_one_write_and_so_do_their_answers(server: Server, wire: Wire) -> None:
    writes = wire.client_transport.writes, wire.server_transport.writes
    calls = [outcome(wire.client.call(ADD, AddRequest(store_id=number), 1.0)) for number in range(500)]
    wire.pump()
    assert [call[0].results[0].first_cursor for call in calls] == list(range(500))
    assert (wire.client_transport.writes, wire.server_transport.writes) == (writes[0] + 1, writes[1] + 1)


def test_answers_that_become_ready_in_one_turn_leave_in_one_write(server: Server, wire: Wire) -> None:
    calls = [outcome(get(wire, cursor)) for cursor in range(100)]
    wire.pump()
    writes = wire.server_transport.writes
    for number in range(100):
        server.answer(number)
    wire.pump()
    assert all(calls)
    assert wire.server_transport.writes == writes + 1


def test_a_message_without_answer(server: Server, wire: Wire) -> None:
    assert wire.client.send_one_way(PEER_FRAME, PeerFrame(sender=2))
    wire.pump()
    assert [frame.sender for frame in server.frames] == [2]


@pytest.mark.parametrize("kind", ["deferred", "coroutine", "fired deferred"])
def test_handlers_may_answer_in_many_ways(kind: str) -> None:
    async def coroutine(request: AddRequest, context: CallContext) -> AddResponse:
        return await succeed(AddResponse())

    def deferred(request: AddRequest, context: CallContext) -> Deferred[AddResponse]:
        answer: Deferred[AddResponse] = Deferred()
        wire.clock.callLater(1.0, answer.callback, AddResponse())
        return answer

    def fired(request: AddRequest, context: CallContext) -> Deferred[AddResponse]:
        return succeed(AddResponse())

    service = RpcService("s")
    handlers: dict[str, Any] = {"deferred": deferred, "coroutine": coroutine, "fired deferred": fired}
    service.register(ADD, handlers[kind])
    wire = Wire(service)
    wire.pump()
    results = outcome(wire.client.call(ADD, AddRequest(), 5.0))
    wire.advance(1.0)
    assert results == [AddResponse()]
    assert wire.server.answering == 0


def test_what_a_handler_knows_of_its_caller(server: Server, wire: Wire) -> None:
    outcome(get(wire, timeout=3.0))
    wire.pump()
    context = server.gets[0][1]
    assert (context.peer, context.peer_address, context.method) == (ANONYMOUS, CLIENT, GET)
    assert context.deadline == pytest.approx(wire.clock.seconds() + 3.0)
    assert context.connection is wire.server
    assert not context.cancelled


def test_a_method_is_registered_once() -> None:
    service = Server().service
    with pytest.raises(ValueError, match="Add is registered twice"):
        service.register(ADD, lambda request, context: AddResponse())


# ---- what goes wrong in a handler --------------------------------------------------------------------------


def failing_wire(handler: Callable[[AddRequest, CallContext], Any]) -> Wire:
    service = RpcService("store 1 node 0")
    service.register(ADD, handler)
    wire = Wire(service)
    wire.pump()
    return wire


def test_a_stated_failure_arrives_whole() -> None:
    def refuse(request: AddRequest, context: CallContext) -> AddResponse:
        raise RpcError(Status.NOT_MASTER, "node 1 is", retry_after_ms=5, redirect="127.0.0.1:5101")

    wire = failing_wire(refuse)
    results = outcome(wire.client.call(ADD, AddRequest(), 1.0))
    wire.pump()
    error = only_error(results)
    assert (error.status, error.message, error.retry_after_ms, error.redirect) == (
        Status.NOT_MASTER,
        "node 1 is",
        5,
        "127.0.0.1:5101",
    )


async def break_later(request: AddRequest, context: CallContext) -> AddResponse:
    raise ZeroDivisionError("in a coroutine")


def break_now(request: AddRequest, context: CallContext) -> AddResponse:
    raise ZeroDivisionError("at once")


@pytest.mark.parametrize("handler", [break_now, break_later])
def test_a_defect_is_logged_with_traceback_and_told_without(handler: Any, logged_errors: LoggedErrors) -> None:
    wire = failing_wire(handler)
    results = outcome(wire.client.call(ADD, AddRequest(), 1.0))
    wire.pump()
    error = only_error(results)
    assert error.status is Status.INTERNAL
    assert error.message == "Add failed unexpectedly in store 1 node 0 (ZeroDivisionError); its log has the details"
    assert len(logged_errors.flush(ZeroDivisionError)) == 1
    assert wire.client.is_open


@pytest.mark.parametrize("answer", [None, 5, GetResponse(), succeed(5)])
def test_an_answer_of_the_wrong_type_is_a_defect(answer: Any, logged_errors: LoggedErrors) -> None:
    wire = failing_wire(lambda request, context: answer)
    results = outcome(wire.client.call(ADD, AddRequest(), 1.0))
    wire.pump()
    assert only_error(results).status is Status.INTERNAL
    assert len(logged_errors.flush(TypeError)) == 1


def test_a_one_way_handler_that_fails_harms_nobody(logged_errors: LoggedErrors) -> None:
    def broken(request: PeerFrame, context: CallContext) -> None:
        raise ZeroDivisionError

    service = RpcService("s")
    service.register_one_way(PEER_FRAME, broken)
    wire = Wire(service)
    wire.pump()
    wire.client.send_one_way(PEER_FRAME, PeerFrame())
    wire.pump()
    assert len(logged_errors.flush(ZeroDivisionError)) == 1
    assert wire.server.is_open


def test_unknown_methods_and_wrong_kinds(server: Server, wire: Wire) -> None:
    unknown = outcome(wire.client.call(NODE_STATUS, NodeStatusRequest(), 1.0))
    wrong_kind = outcome(wire.client.call(PEER_FRAME, PeerFrame(), 1.0))
    wire.client.send_one_way(ADD, AddRequest())
    wire.client.send_one_way(NODE_STATUS, NodeStatusRequest())
    wire.pump()
    assert only_error(unknown).status is Status.INVALID_ARGUMENT
    assert "does not know method 900; this port answers Add, Get, PeerFrame" in only_error(unknown).message
    assert "takes PeerFrame only as one-way message" in only_error(wrong_kind).message
    assert server.adds == 0
    assert wire.client.is_open


def test_a_body_that_cannot_be_read(server: Server, wire: Wire) -> None:
    garbage: Any = SimpleNamespace(SerializeToString=lambda: b"\xff\xff\xff")
    results = outcome(wire.client.call(ADD, garbage, 1.0))
    wire.pump()
    assert "the body is no AddRequest" in only_error(results).message
    assert server.adds == 0


def test_an_answer_that_cannot_be_read(wire: Wire) -> None:
    def read(body: bytes) -> AddResponse:
        raise DecodeError("not in this test")

    stricter: Any = SimpleNamespace(FromString=read, __name__="AddResponse")
    results = outcome(wire.client.call(Method(ADD.number, "Add", AddRequest, stricter), AddRequest(), 1.0))
    wire.pump()
    assert only_error(results).status is Status.INTERNAL
    assert f"{SERVER}: the answer to Add is no AddResponse" in only_error(results).message
    assert wire.client.is_open


# ---- access control ----------------------------------------------------------------------------------------


def test_the_authorizer_sees_who_asks_what(server: Server) -> None:
    asked: list[tuple[Identity, str, Any]] = []

    def authorize(peer: Identity, method: Method[Any, Any], request: Any) -> None:
        asked.append((peer, method.name, request))
        if method is not ADD or request.store_id != 1:
            raise RpcError(Status.PERMISSION_DENIED, f"{peer} may not call {method.name}")

    server.service.authorize = authorize
    wire = Wire(server.service)
    wire.pump()
    allowed = outcome(wire.client.call(ADD, AddRequest(store_id=1), 1.0))
    denied = outcome(wire.client.call(ADD, AddRequest(store_id=2), 1.0))
    wire.client.send_one_way(PEER_FRAME, PeerFrame())
    wire.pump()
    assert isinstance(allowed[0], AddResponse)
    assert only_error(denied).status is Status.PERMISSION_DENIED
    assert (server.adds, server.frames) == (1, [])
    assert [(peer, name) for peer, name, _ in asked] == [
        (ANONYMOUS, "Add"),
        (ANONYMOUS, "Add"),
        (ANONYMOUS, "PeerFrame"),
    ]


def test_a_peer_that_is_not_admitted_is_told_why(server: Server) -> None:
    def admit(peer: Identity, address: Address) -> None:
        raise RpcError(Status.PERMISSION_DENIED, f"{peer} at {address} is no member of store 1")

    server.service.admit = admit
    wire = Wire(server.service)
    wire.pump()
    assert not wire.ready
    assert not wire.server.is_open
    assert wire.client.lost_reason is not None
    assert wire.client.lost_reason.status is Status.PERMISSION_DENIED
    assert wire.client.lost_reason.message == f"anonymous at {CLIENT} is no member of store 1"


# ---- deadlines and cancellation ----------------------------------------------------------------------------


def test_the_caller_stops_waiting_and_the_server_stops_working(server: Server, wire: Wire) -> None:
    results = outcome(get(wire, timeout=2.0))
    wire.advance(1.9)
    assert results == []
    assert wire.server.answering == 1
    wire.advance(0.2)
    error = only_error(results)
    assert (error.status, error.maybe_executed) == (Status.DEADLINE_EXCEEDED, True)
    assert error.message == f"{SERVER} did not answer Get within 2 s"
    assert (wire.server.answering, server.cancelled) == (0, 1)
    assert server.gets[0][1].cancelled


def test_the_server_says_so_when_the_time_is_over(server: Server, wire: Wire) -> None:
    """A client of another make may have no timers of its own."""
    results = outcome(get(wire, timeout=2.0))
    wire.pump()
    for call in wire.client._pending.values():
        call.deadline += 100.0
    wire.advance(2.1)
    assert only_error(results).message == "Get: the time given is over"


def test_each_call_has_its_own_deadline(server: Server, wire: Wire) -> None:
    calls = [outcome(get(wire, number, timeout=timeout)) for number, timeout in enumerate([5.0, 1.0, 3.0, 1.0])]
    for expected in ([0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]):
        assert [len(call) for call in calls] == expected
        wire.advance(1.01)


def test_a_late_answer_is_ignored(server: Server, wire: Wire) -> None:
    results = outcome(get(wire, timeout=1.0))
    wire.pump()
    wire.server_transport.reading = wire.client_transport.reading = False
    server.answer(0)
    wire.advance(1.1)
    assert only_error(results).status is Status.DEADLINE_EXCEEDED
    wire.server_transport.reading = wire.client_transport.reading = True
    wire.pump()
    assert len(results) == 1
    assert wire.client.is_open


def test_cancelling_reaches_the_handler(server: Server, wire: Wire) -> None:
    call = get(wire)
    results = outcome(call)
    wire.pump()
    told: list[str] = []
    server.gets[0][1].on_cancel(lambda: told.append("cancelled"))
    call.cancel()
    wire.pump()
    assert isinstance(results[0], CancelledError)
    assert (server.cancelled, told, wire.server.answering) == (1, ["cancelled"], 0)
    server.gets[0][1].on_cancel(lambda: told.append("again"))  # too late: at once
    assert told == ["cancelled", "again"]


def test_cancelling_what_is_answered_already(server: Server, wire: Wire) -> None:
    call = wire.client.call(ADD, AddRequest(), 1.0)
    wire.pump()
    call.cancel()
    wire.pump()
    assert outcome(call) == [AddResponse(results=[{}])]  # type: ignore[list-item]


def test_a_handler_that_fails_when_cancelled_is_logged(logged_errors: LoggedErrors) -> None:
    def explode() -> None:
        raise ZeroDivisionError

    def handler(request: AddRequest, context: CallContext) -> Deferred[AddResponse]:
        context.on_cancel(explode)
        return Deferred()

    wire = failing_wire(handler)
    call = wire.client.call(ADD, AddRequest(), 1.0)
    outcome(call)
    wire.pump()
    call.cancel()
    wire.pump()
    assert len(logged_errors.flush(ZeroDivisionError)) == 1


# ---- bounds ------------------------------------------------------------------------------------------------


def test_too_many_calls_of_a_peer_are_refused_with_a_time_to_come_back(server: Server) -> None:
    settings = RpcSettings(max_in_flight_calls=3, overload_retry_after_ms=70)
    wire = Wire(server.service, settings=settings, client_settings=RpcSettings())
    wire.pump()
    calls = [outcome(get(wire, number)) for number in range(5)]
    quick = outcome(wire.client.call(ADD, AddRequest(), 1.0))
    wire.pump()
    assert [len(call) for call in calls] == [0, 0, 0, 1, 1]
    error = only_error(calls[3])
    assert (error.status, error.retry_after_ms, error.maybe_executed) == (Status.RESOURCE_EXHAUSTED, 70, False)
    assert "3 calls of this connection" in error.message
    assert only_error(quick).status is Status.RESOURCE_EXHAUSTED
    server.answer(0)
    wire.pump()
    again = outcome(wire.client.call(ADD, AddRequest(), 1.0))
    wire.pump()
    assert isinstance(again[0], AddResponse)


def test_too_many_calls_of_ours_are_refused_here(server: Server) -> None:
    wire = Wire(server.service, client_settings=RpcSettings(max_in_flight_calls=2))
    wire.pump()
    calls = [outcome(get(wire, number)) for number in range(3)]
    assert only_error(calls[2]).status is Status.RESOURCE_EXHAUSTED
    assert "wait for an answer already" in only_error(calls[2]).message
    wire.pump()
    assert len(server.gets) == 2


def test_call_ids_are_unique_among_the_pending_after_they_wrap(server: Server, wire: Wire) -> None:
    first = get(wire, 1)
    outcome(first)
    wire.client._last_call_id = (1 << 28) - 3
    calls = [outcome(get(wire, number)) for number in range(2, 6)]
    wire.pump()
    assert len({context.call_id for _, context, _ in server.gets}) == 5
    for number in range(5):
        server.answer(number)
    wire.pump()
    assert [call[0].next_cursor for call in calls] == [2, 3, 4, 5]


def test_a_request_larger_than_the_server_takes_fails_here_and_alone(server: Server) -> None:
    """The server tells its limit in its PONG; sending the frame anyway would cost the connection."""
    wire = Wire(server.service, settings=RpcSettings(max_frame_bytes=1000), client_settings=RpcSettings())
    wire.pump()
    request = AddRequest()
    request.batches.add(items=b"x" * 1000)
    error = only_error(outcome(wire.client.call(ADD, request, 1.0)))
    assert (error.status, error.maybe_executed) == (Status.INVALID_ARGUMENT, False)
    assert f"larger than {SERVER} takes (1000 bytes)" in error.message
    frame = PeerFrame()
    frame.messages.add().entries.add(payload=b"x" * 1000)
    with pytest.raises(RpcError, match="larger"):
        wire.client.send_one_way(PEER_FRAME, frame)
    del request.batches[:]
    request.batches.add(items=b"x" * (1000 - OVERHEAD - 16))
    results = outcome(wire.client.call(ADD, request, 1.0))
    wire.pump()
    assert isinstance(results[0], AddResponse)


def test_an_answer_larger_than_the_client_takes_is_an_error_of_that_call(server: Server) -> None:
    wire = Wire(server.service, client_settings=RpcSettings(max_frame_bytes=1000))
    wire.pump()
    results = outcome(get(wire))
    wire.pump()
    response = GetResponse()
    response.batches.add(items=b"x" * 2000)
    server.gets[0][2].callback(response)
    wire.pump()
    assert only_error(results).status is Status.INVALID_ARGUMENT
    assert "ask for less" in only_error(results).message
    assert wire.client.is_open


def big(size: int) -> GetResponse:
    response = GetResponse()
    response.batches.add(items=bytes(size))
    return response


def test_a_peer_that_does_not_read_its_answers_is_not_served_any_more(server: Server) -> None:
    settings = RpcSettings(write_high_water_bytes=10_000, write_chunk_bytes=1000)
    wire = Wire(server.service, settings=settings, capacity=1000)
    wire.pump()
    calls = [outcome(get(wire, number)) for number in range(40)]
    wire.pump()
    wire.client_transport.reading = False
    for _, _, answer in server.gets[:30]:
        answer.callback(big(1000))
    wire.pump()
    assert not wire.server_transport.reading
    outcome(get(wire, 99))
    wire.pump()
    assert len(server.gets) == 40  # the new one is not even read
    wire.client_transport.reading = True
    wire.pump()
    assert wire.server_transport.reading
    assert len(server.gets) == 41
    assert sum(map(len, calls)) == 30


def test_a_peer_that_never_reads_is_dropped_at_a_bound(server: Server) -> None:
    settings = RpcSettings(max_unsent_bytes=50_000, write_chunk_bytes=1000)
    wire = Wire(server.service, settings=settings, client_settings=RpcSettings(), capacity=1000)
    wire.pump()
    calls = [outcome(get(wire, number)) for number in range(70)]
    wire.pump()
    wire.client_transport.reading = False
    answered = 0
    for _, _, answer in server.gets:
        if not answer.called:
            answer.callback(big(1000))
            answered += 1
    assert 50 <= answered <= 52
    assert wire.server.lost_reason is not None
    assert "does not read its replies" in wire.server.lost_reason.message
    assert wire.server.unsent_bytes == 0
    assert server.cancelled == 70 - answered
    wire.pump()
    assert all(calls)


def test_our_own_calls_and_messages_are_bounded_too(server: Server) -> None:
    settings = RpcSettings(max_unsent_bytes=5000, write_chunk_bytes=1000)
    wire = Wire(server.service, settings=settings, capacity=1000)
    wire.pump()
    wire.server_transport.reading = False
    frame = PeerFrame()
    frame.messages.add().entries.add(payload=bytes(1000))
    sent = 0
    while wire.client.send_one_way(PEER_FRAME, frame):
        sent += 1
        wire.pump()
    assert 5 <= sent <= 10
    error = only_error(outcome(wire.client.call(ADD, AddRequest(), 1.0)))
    assert (error.status, error.maybe_executed) == (Status.RESOURCE_EXHAUSTED, False)
    assert "max_unsent_bytes" in error.message
    wire.server_transport.reading = True
    wire.pump()
    assert len(server.frames) == sent
    assert wire.client.send_one_way(PEER_FRAME, frame)
    wire.pump()


def test_two_sides_full_of_their_own_requests_do_not_wait_for_each_other() -> None:
    servers = Server(), Server()
    settings = RpcSettings(write_high_water_bytes=2000, write_chunk_bytes=1000)
    wire = Wire(servers[0].service, client_service=servers[1].service, settings=settings, capacity=1000)
    wire.pump()
    frame = PeerFrame()
    frame.messages.add().entries.add(payload=bytes(1000))
    for _ in range(20):
        assert wire.client.send_one_way(PEER_FRAME, frame)
        assert wire.server.send_one_way(PEER_FRAME, frame)
    wire.pump()
    assert [len(server.frames) for server in servers] == [20, 20]


def test_one_large_frame_and_many_small_ones_arrive_whole(server: Server) -> None:
    wire = Wire(server.service, capacity=3000, settings=RpcSettings(write_chunk_bytes=700))
    wire.pump()
    request = AddRequest(store_id=5)
    request.batches.add(items=bytes(range(256)) * 400)
    calls = [outcome(wire.client.call(ADD, request if n == 3 else AddRequest(store_id=n), 60.0)) for n in range(8)]
    wire.pump()
    assert [call[0].results[0].first_cursor for call in calls] == [0, 1, 2, 5, 4, 5, 6, 7]


# ---- keep-alive --------------------------------------------------------------------------------------------

KEEPALIVE = RpcSettings(keepalive_interval_s=4.0, keepalive_timeout_s=4.0, write_stall_timeout_s=8.0)


def test_an_idle_connection_stays_open(server: Server) -> None:
    wire = Wire(server.service, settings=KEEPALIVE)
    wire.advance(100.0)
    assert wire.client.is_open
    assert wire.server.is_open


def test_a_half_open_connection_is_found_out(server: Server) -> None:
    """The machine at the other end lost power: nothing arrives, and nothing ever says so."""
    wire = Wire(server.service, settings=RpcSettings(keepalive_interval_s=100.0), client_settings=KEEPALIVE)
    wire.pump()
    results = outcome(get(wire, timeout=1000.0))
    wire.pump()
    wire.server_transport.reading = False  # takes nothing, says nothing
    wire.advance(11.0)
    error = only_error(results)
    assert (error.status, error.maybe_executed) == (Status.UNAVAILABLE, True)
    assert f"connection to {SERVER} lost: it did not answer a ping within 4 s" in error.message
    assert wire.client_transport.aborted


def test_a_peer_that_speaks_but_never_takes_bytes_is_dropped(server: Server) -> None:
    wire = Wire(server.service, settings=KEEPALIVE, capacity=1000)
    wire.pump()
    frame = PeerFrame()
    frame.messages.add().entries.add(payload=bytes(5000))
    wire.client.send_one_way(PEER_FRAME, frame)
    wire.server_transport.reading = False
    for _ in range(20):
        wire.server.send_ping()
        wire.advance(1.0)
    assert wire.client.lost_reason is not None
    assert "has taken no bytes for 8 s" in wire.client.lost_reason.message


def test_a_process_that_was_stopped_drops_nobody(server: Server) -> None:
    wire = Wire(server.service, settings=KEEPALIVE)
    wire.advance(10.0)
    wire.clock.advance(300.0)  # both were stopped for five minutes
    wire.pump()
    wire.advance(20.0)
    assert wire.client.is_open


# ---- ends --------------------------------------------------------------------------------------------------


def test_a_lost_connection_fails_our_calls_and_cancels_the_peers(server: Server, wire: Wire) -> None:
    results, reasons = outcome(get(wire)), []
    wire.pump()
    wire.client.on_lost(reasons.append)
    lost = outcome(wire.client.when_lost())
    wire.client.abort("a test wants it")
    error = only_error(results)
    assert (error.status, error.maybe_executed) == (Status.UNAVAILABLE, True)
    assert error.message == f"connection to {SERVER} lost: a test wants it"
    wire.pump()
    assert server.cancelled == 1
    assert [reason.message for reason in reasons] == ["a test wants it"]
    assert lost[0] is reasons[0]
    wire.client.on_lost(reasons.append)
    assert len(reasons) == 2
    assert wire.clock.getDelayedCalls() == []


def test_calls_on_a_lost_connection_fail_at_once_and_were_surely_not_executed(wire: Wire) -> None:
    wire.client.close()
    wire.pump()
    error = only_error(outcome(wire.client.call(ADD, AddRequest(), 1.0)))
    assert (error.status, error.maybe_executed) == (Status.UNAVAILABLE, False)
    assert not wire.client.send_one_way(PEER_FRAME, PeerFrame())
    assert wire.clock.getDelayedCalls() == []


def test_close_writes_out_what_is_queued(server: Server) -> None:
    wire = Wire(server.service, capacity=1000, settings=RpcSettings(write_chunk_bytes=500))
    wire.pump()
    frame = PeerFrame(sender=3)
    frame.messages.add().entries.add(payload=bytes(5000))
    wire.client.send_one_way(PEER_FRAME, frame)
    wire.client.close()
    wire.client.close()  # again: nothing happens
    wire.pump()
    assert [frame.sender for frame in server.frames] == [3]
    assert wire.server.lost_reason is not None
    assert wire.clock.getDelayedCalls() == []


def test_close_with_a_reason_tells_the_peer(server: Server, wire: Wire) -> None:
    results = outcome(get(wire))
    wire.pump()
    wire.server.close(RpcError(Status.UNAVAILABLE, "store 1 node 0 is stopping"))
    wire.pump()
    assert f"connection to {SERVER} lost: store 1 node 0 is stopping" in only_error(results).message
    assert wire.clock.getDelayedCalls() == []


def test_close_does_not_wait_for_ever_for_a_peer_that_does_not_read(server: Server) -> None:
    settings = RpcSettings(goodbye_linger_s=2.0, write_chunk_bytes=500)
    wire = Wire(server.service, settings=settings, capacity=1000)
    wire.pump()
    frame = PeerFrame()
    frame.messages.add().entries.add(payload=bytes(5000))
    wire.client.send_one_way(PEER_FRAME, frame)
    wire.server_transport.reading = False
    closed = outcome(wire.client.when_closed())
    wire.client.close()
    wire.advance(1.9)
    assert closed == []
    wire.advance(0.2)
    assert closed == [None]


def test_draining(server: Server, wire: Wire) -> None:
    in_work = outcome(get(wire))
    wire.pump()
    stopping = RpcError(Status.UNAVAILABLE, "store 1 is stopping")
    wire.server.drain(stopping)
    new = outcome(wire.client.call(ADD, AddRequest(), 1.0))
    wire.pump()
    assert only_error(new).message == "store 1 is stopping"
    assert in_work == []
    wire.server.refuse_calls_in_work(stopping)
    wire.pump()
    assert only_error(in_work).message == "store 1 is stopping"
    assert server.cancelled == 1


def test_a_call_made_when_a_call_fails_has_a_deadline_too(server: Server, wire: Wire) -> None:
    second: list[Any] = []

    def again(failure: Any) -> None:
        get(wire, 2, timeout=1.0).addErrback(lambda second_failure: second.append(second_failure.value))

    get(wire, 1, timeout=1.0).addErrback(again)
    wire.advance(1.1)
    assert second == []
    wire.advance(1.1)
    assert second[0].status is Status.DEADLINE_EXCEEDED


# ---- peers that do not follow the protocol -----------------------------------------------------------------


def raw_server(settings: RpcSettings | None = None) -> tuple[Wire, Server]:
    """A server whose client is the test itself."""
    server = Server()
    wire = Wire(server.service, settings=settings or RpcSettings())
    wire.pump()
    return wire, server


def goodbye(wire: Wire) -> Envelope:
    """The last frame the server sent."""
    return parse_envelope(FrameDecoder(1 << 20).feed(bytes(wire.server_transport.in_kernel))[-1])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\0\0", "a frame of 0 bytes"),
        (b"\x7f\xff\xff\xff", "a frame of 2147483647 bytes is larger than the limit of 67108864"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "the peer speaks HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "the peer begins a TLS handshake, but this port is plain TCP"),
        (encode_frame(b"\xff\xff\xff"), "a frame of 3 bytes holds no Envelope"),
        (encode_frame(Envelope(method=1).SerializeToString()), "call_id 0 is not allowed"),
    ],
)
def test_garbage_is_answered_with_a_reason_and_costs_only_its_sender(data: bytes, words: str) -> None:
    wire, _ = raw_server()
    wire.server.dataReceived(data)
    envelope = goodbye(wire)
    assert (envelope.kind, envelope.call_id, envelope.status) == (Envelope.REPLY, 0, Status.INVALID_ARGUMENT)
    assert words in envelope.message
    assert not wire.server.is_open
    assert wire.server_transport.write_closed  # only our half: a full close could destroy the goodbye
    wire.server.dataReceived(b"more garbage")
    wire.advance(1.1)
    assert wire.server_transport.closed


def test_what_came_before_the_garbage_is_carried_out() -> None:
    wire, server = raw_server()
    one_way = Envelope(kind=Envelope.ONE_WAY, method=PEER_FRAME.number).SerializeToString()
    wire.server.dataReceived(encode_frame(one_way) * 3 + b"\0\0\0\0")
    assert len(server.frames) == 3


def test_a_call_id_in_use_is_a_breach() -> None:
    wire, _ = raw_server()
    request = encode_frame(Envelope(method=GET.number, call_id=5).SerializeToString())
    wire.server.dataReceived(request + request)
    assert "call_id 5 is in use" in goodbye(wire).message


def test_kinds_of_a_newer_protocol_are_ignored() -> None:
    wire, _ = raw_server()
    wire.server.dataReceived(encode_frame(b"\x08\x63"))  # kind 99
    wire.server.dataReceived(encode_frame(Envelope(kind=Envelope.CANCEL, call_id=77).SerializeToString()))
    wire.server.dataReceived(encode_frame(Envelope(kind=Envelope.REPLY, call_id=77).SerializeToString()))
    wire.server.dataReceived(encode_frame(Envelope(kind=Envelope.PONG).SerializeToString()))
    assert wire.server.is_open


def test_a_request_without_deadline_has_none() -> None:
    wire, server = raw_server()
    wire.server.dataReceived(encode_frame(Envelope(method=GET.number, call_id=5).SerializeToString()))
    assert server.gets[0][1].deadline is None
    wire.server.dataReceived(encode_frame(Envelope(kind=Envelope.PING).SerializeToString()))
    wire.clock.advance(1.0)
    assert wire.server.answering == 1


frames = st.binary(min_size=1, max_size=60) | st.builds(
    lambda kind, call_id, method, deadline_ms, status, body: (
        Envelope(
            kind=kind, call_id=call_id, method=method, deadline_ms=deadline_ms, status=status, body=body
        ).SerializeToString()
        or b"\x08\x00"
    ),
    st.integers(0, 9),
    st.integers(0, 5) | st.integers(0, (1 << 64) - 1),
    st.sampled_from([0, ADD.number, GET.number, PEER_FRAME.number, NODE_STATUS.number]),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, 20),
    st.binary(max_size=20),
)


@given(st.lists(frames, max_size=12), st.binary(max_size=12), st.integers(1, 40))
def test_no_bytes_whatever_cause_an_unexpected_error(messages: list[bytes], tail: bytes, step: int) -> None:
    """What is not ours ends the connection; nothing is logged as a failure (the fixture `tidy` looks)."""
    wire, server = raw_server(RpcSettings(max_frame_bytes=200, max_in_flight_calls=4))
    data = b"".join(map(encode_frame, messages)) + tail
    for start in range(0, len(data), step):
        wire.server.dataReceived(data[start : start + step])
        assert wire.server.answering <= 4
    assert wire.server.is_open or wire.server.lost_reason is not None
    for _, _, answer in server.gets:
        if not answer.called:
            answer.callback(GetResponse())
    wire.server.abort("end")
    wire.clock.advance(0)
    assert wire.server.answering == 0
