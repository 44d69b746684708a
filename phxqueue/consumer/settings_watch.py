"""Follows the settings of a topic in its first store: asks every now and then whether they have changed.

While nobody answers, what was known last stays in force; a process that has never had an answer goes on by its files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.config import Store, Topic
from phxqueue.net.routing import Route
from phxqueue.net.status import RpcError
from phxqueue.producer.routes import store_route
from phxqueue.producer.sender import Caller
from phxqueue.proto.methods import GET_SETTINGS
from phxqueue.proto.store_pb2 import GetSettingsRequest, GetSettingsResponse

#: The Paxos group that settings live in.
SETTINGS_GROUP = 0
#: Longest one question takes, in seconds.
DEADLINE_S = 5.0


def settings_store(topic: Topic) -> Store:
    """The store that a topic's settings live in: the one with the lowest id."""
    return min(topic.stores, key=lambda store: store.store_id)


def settings_route(topic: Topic) -> Route:
    """The way there."""
    return store_route(topic, settings_store(topic).store_id, SETTINGS_GROUP)


class SettingsWatch:
    """Tells of every change.

    Args:
        changed: told the settings, first when they are known at all.
        interval_s: between two questions.
    """

    log = Logger()

    def __init__(
        self,
        topic: Topic,
        caller: Caller,
        clock: IReactorTime,
        changed: Callable[[Mapping[str, bytes]], None],
        interval_s: float,
    ) -> None:
        self._topic = topic
        self._caller = caller
        self._clock = clock
        self._changed = changed
        self._interval_s = interval_s
        self._revision: int | None = None
        self._asking: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None
        self._failing = False
        self._stopped = False

    def start(self) -> None:
        """Ask now, and again and again."""
        self._ask()

    def reconfigure(self, topic: Topic) -> None:
        """Go on with another configuration: the store may be another one."""
        if settings_store(topic).store_id != settings_store(self._topic).store_id:
            self._revision = None
        self._topic = topic

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _ask(self) -> None:
        self._timer = None
        topic = self._topic
        request = GetSettingsRequest(topic_id=topic.topic_id, store_id=settings_store(topic).store_id)
        if self._revision is not None:
            request.known_revision = self._revision
        self._asking = self._caller.call(settings_route(topic), GET_SETTINGS, request, DEADLINE_S)
        self._asking.addCallbacks(self._answered, self._failed)
        self._asking.addErrback(lambda failure: self.log.failure("a defect of the consumer itself", failure))
        self._asking.addCallback(self._again)

    def _answered(self, response: GetSettingsResponse) -> None:
        self._failing = False
        if not response.unchanged and not self._stopped:
            self._revision = response.revision
            self._changed(dict(response.settings))

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        error = failure.value
        if not isinstance(error, RpcError):
            failure.raiseException()
        elif not self._failing:
            self._failing = True  # everybody who fetches says so as well
            self.log.debug("the settings of the topic are not known at the moment: {error}", error=error)

    def _again(self, _: None) -> None:
        self._asking = None
        if not self._stopped:
            self._timer = self._clock.callLater(self._interval_s, self._ask)
