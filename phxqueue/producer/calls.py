"""Calls that change nothing when they are made again: made until one is answered."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from twisted.internet.task import deferLater

from phxqueue.net.routing import Route
from phxqueue.net.status import Retry, RpcError
from phxqueue.producer.errors import EnqueueError, OutcomeUnknown, Refused
from phxqueue.producer.surroundings import Surroundings
from phxqueue.proto.methods import Method


class Unanswered(Exception):
    """No call was answered.

    Attributes:
        error: of the last one.
        maybe_done: one of them may have been carried out.
    """

    def __init__(self, what: str, error: RpcError, *, maybe_done: bool) -> None:
        super().__init__(f"{what}: {error}")
        self.error = error
        self.maybe_done = maybe_done

    def as_enqueue_error(self, remedy: str) -> EnqueueError:
        """What the application is told; `remedy`: what to do when nobody knows whether it was done."""
        if self.maybe_done:
            return OutcomeUnknown(f"{self}; {remedy}", self.error.status)
        return Refused(str(self), self.error.status)


async def call_until_answered(
    surroundings: Surroundings, route: Route, method: Method[Any, Any], request: Message
) -> Any:
    """The answer of the route's master, within `deadline_s` of the producer.

    Raises:
        Unanswered: every call failed; or the last one did in a way that no other can mend.
    """
    settings, clock = surroundings.settings, surroundings.clock
    end = clock.seconds() + settings.deadline_s
    pause, maybe_done = settings.backoff_first_s, False
    while True:
        try:
            return await surroundings.caller.call(route, method, request, max(end - clock.seconds(), 0.001))
        except RpcError as error:
            maybe_done = maybe_done or error.maybe_executed
            if error.status.retry is Retry.NEVER or end - clock.seconds() <= pause:
                raise Unanswered(route.what, error, maybe_done=maybe_done) from None
        await deferLater(clock, pause)
        pause = min(pause * 2, settings.backoff_max_s)
