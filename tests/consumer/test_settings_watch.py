"""Settings that are changed at run time reach a consumer, and stay while nobody answers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from phxqueue.config import Store
from phxqueue.consumer.asking import Asking
from phxqueue.consumer.limits import Limit, Throttle
from phxqueue.consumer.settings_watch import SettingsWatch
from phxqueue.consumer.throttle_settings import limit_key, pause_key, read_throttle
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.methods import GET_SETTINGS
from phxqueue.proto.store_pb2 import GetSettingsRequest, GetSettingsResponse
from tests.producer.fake_store import make_store, make_topic


class Caller:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[GetSettingsRequest] = []
        self.waiting: list[Deferred[Any]] = []

    def call(self, route: Any, method: Any, request: Any, deadline_s: float, **_: Any) -> Deferred[Any]:
        assert method is GET_SETTINGS
        self.asked.append(request)
        self.waiting.append(Deferred())
        return self.waiting[-1]


def test_changes_are_told_once_and_failures_keep_what_is_known() -> None:
    clock, caller, told = Clock(), Caller(), list[Any]()
    stores: tuple[Store, ...] = (make_store(7), make_store(3))
    watch = SettingsWatch(make_topic(stores=stores), caller, clock, told.append, 2.0)
    watch.start()
    assert caller.asked[0].store_id == 3
    assert not caller.asked[0].HasField("known_revision")
    caller.waiting[0].callback(GetSettingsResponse(revision=5, settings={"a": b"1"}))
    assert told == [{"a": b"1"}]
    clock.advance(1.9)
    assert len(caller.asked) == 1
    clock.advance(0.1)
    assert caller.asked[1].known_revision == 5
    caller.waiting[1].callback(GetSettingsResponse(revision=5, unchanged=True))
    clock.advance(2)
    caller.waiting[2].errback(RpcError(Status.NO_MASTER, "an election"))
    clock.advance(2)
    caller.waiting[3].callback(GetSettingsResponse(revision=6))
    assert told == [{"a": b"1"}, {}]
    watch.reconfigure(make_topic(stores=(make_store(7),)))
    clock.advance(2)
    assert caller.asked[4].store_id == 7
    assert not caller.asked[4].HasField("known_revision"), "another store counts by itself"
    watch.stop()
    clock.advance(10)
    assert len(caller.asked) == 5
    assert clock.getDelayedCalls() == []


def test_a_defect_is_logged_and_asking_goes_on(logged_errors: Any) -> None:
    clock, caller = Clock(), Caller()

    def broken(settings: Any) -> None:
        raise ZeroDivisionError

    watch = SettingsWatch(make_topic(), caller, clock, broken, 1.0)
    watch.start()
    caller.waiting[0].callback(GetSettingsResponse(revision=1))
    clock.advance(1)
    caller.waiting[1].errback(ZeroDivisionError())
    clock.advance(1)
    assert len(caller.asked) == 3
    assert len(logged_errors.flush(ZeroDivisionError)) == 2
    watch.stop()


def test_a_question_that_cannot_be_asked_is_asked_again(logged_errors: Any) -> None:
    clock, asked, told = Clock(), list[int](), list[int]()

    def ask() -> Deferred[int]:
        asked.append(1)
        if len(asked) == 2:
            raise ZeroDivisionError
        return succeed(len(asked))

    asking = Asking(clock, ask, told.append, "a number", 1.0)
    asking.start()
    clock.pump([1.0] * 2)
    assert told == [1, 3]
    assert len(logged_errors.flush(ZeroDivisionError)) == 1
    asking.stop()


def test_what_is_written_is_read_again() -> None:
    limits = (Limit(-1, 1, -1, 2, 0), Limit(1, -1, 3, -1, 600))
    settings = {limit_key(limit): str(limit.per_minute).encode() for limit in limits}
    settings |= {
        pause_key(2, 1): b"1",
        "somebody/else": b"?",
        "pause/x/1": b"1",
        "limit/1/1/1/1": b"many",
        "limit/1": b"1",
    }
    throttle, wrong = read_throttle(settings)
    assert throttle == Throttle(limits, frozenset([(2, 1)]))
    assert [limit.per_minute for limit in throttle.limits] == [0, 600]
    assert wrong == ["limit/1", "limit/1/1/1/1", "pause/x/1"]
