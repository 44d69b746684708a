"""Calls between the nodes of a simulated replica set, over the same network as their frames.

A request and its answer are lost, delayed, repeated and cut off like any frame; the caller gives up after its time-out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from inspect import iscoroutine
from typing import Any

from google.protobuf.message import Message
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from phxqueue.net.service import RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.methods import Method
from phxqueue.replica.interfaces import DelayedCall
from phxqueue.testing.sim.world import ProcessClock

MARK = b"\xff"
"""What such a message begins with; a frame never does."""
_HEAD = struct.Struct(">cBQI")
_REQUEST, _ANSWER = 0, 1


class PeerCalls:
    """One process's end: what it calls, and what it answers.

    Args:
        send: sends bytes to a peer: (receiver, wire).
        report: takes a defect of a handler.
    """

    def __init__(
        self, clock: ProcessClock, send: Callable[[int, bytes], None], report: Callable[[Failure], None]
    ) -> None:
        self.service = RpcService("simulated peers")
        self._clock = clock
        self._send = send
        self._report = report
        self._last = 0
        self._waiting: dict[int, tuple[Deferred[Any], DelayedCall, type[Message]]] = {}

    def call(self, receiver: int, method: Method[Any, Any], request: Message, timeout: float) -> Deferred[Any]:
        """Call a peer; fails with RpcError when it refuses or nothing comes in time."""
        self._last += 1
        number = self._last

        def cancelled(answer: Deferred[Any]) -> None:
            self._drop(number)

        answer: Deferred[Any] = Deferred(cancelled)
        timer = self._clock.callLater(timeout, self._late, number, method.name)
        self._waiting[number] = answer, timer, method.response
        self._send(receiver, _HEAD.pack(MARK, _REQUEST, number, method.number) + request.SerializeToString())
        return answer

    def receive(self, sender: int, wire: bytes) -> None:
        """Take a request or an answer."""
        _, kind, number, what = _HEAD.unpack_from(wire)
        body = wire[_HEAD.size :]
        if kind == _REQUEST:
            self._handle(sender, number, what, body)
            return
        waiting = self._drop(number)
        if waiting is None:
            return
        answer, _, response = waiting
        if what == Status.OK:
            answer.callback(response.FromString(body))
        else:
            answer.errback(RpcError(Status(what), body.decode()))

    def _drop(self, number: int) -> tuple[Deferred[Any], DelayedCall, type[Message]] | None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None and waiting[1].active():
            waiting[1].cancel()
        return waiting

    def _late(self, number: int, name: str) -> None:
        waiting = self._drop(number)
        if waiting is not None:
            waiting[0].errback(RpcError(Status.DEADLINE_EXCEEDED, f"{name}: no answer in time"))

    # ---- answering -------------------------------------------------------------------------------

    def _handle(self, sender: int, number: int, method: int, body: bytes) -> None:
        registered = self.service.table[method]
        handler: Callable[[Any, Any], Any] = registered.handler
        try:
            result = handler(registered.parse(body), None)
        except RpcError as error:
            self._answer(Failure(error), sender, number)
            return
        if iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        if isinstance(result, Deferred):
            result.addBoth(self._answer, sender, number).addErrback(self._report)
        else:
            self._answer(result, sender, number)

    def _answer(self, result: Any, sender: int, number: int) -> None:
        if isinstance(result, Failure):
            result.trap(RpcError)
            error = result.value
            assert isinstance(error, RpcError)
            status, body = error.status, error.message.encode()
        else:
            status, body = Status.OK, result.SerializeToString()
        self._send(sender, _HEAD.pack(MARK, _ANSWER, number, int(status)) + body)
