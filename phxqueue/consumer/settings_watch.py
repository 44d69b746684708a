"""Follows the settings of a topic in its first store: asks every now and then whether they have changed.

While nobody answers, what was known last stays in force; a process that has never had an answer goes on by its files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from phxqueue.config import Store, Topic
from phxqueue.consumer.asking import Asking
from phxqueue.net.routing import Caller, Route
from phxqueue.producer.routes import store_route
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
        self._changed = changed
        self._revision: int | None = None
        self._asking = Asking(clock, self._ask, self._answered, "the settings of the topic", interval_s)

    def start(self) -> None:
        """Ask now, and again and again."""
        self._asking.start()

    def reconfigure(self, topic: Topic) -> None:
        """Go on with another configuration: the store may be another one."""
        if settings_store(topic).store_id != settings_store(self._topic).store_id:
            self._revision = None
        self._topic = topic

    def stop(self) -> None:
        """Ask no more."""
        self._asking.stop()

    def _ask(self) -> Deferred[GetSettingsResponse]:
        topic = self._topic
        request = GetSettingsRequest(topic_id=topic.topic_id, store_id=settings_store(topic).store_id)
        if self._revision is not None:
            request.known_revision = self._revision
        return self._caller.call(settings_route(topic), GET_SETTINGS, request, DEADLINE_S)

    def _answered(self, response: GetSettingsResponse) -> None:
        if not response.unchanged:
            self._revision = response.revision
            self._changed(dict(response.settings))
