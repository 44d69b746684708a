"""Tables with many keys: what concerns all of them takes several turns of the reactor, and stays right between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from phxqueue.lock.expiry import BEGIN_KEYS
from phxqueue.lock.keeping import Keeping
from phxqueue.lock.moving import PORTION_KEYS
from phxqueue.lock.records import Lock, String
from phxqueue.lock.shares import Share, Shares, Territory
from phxqueue.net.status import Status
from phxqueue.proto import methods
from phxqueue.proto.lock_pb2 import ChangeShareRequest, ExportKeysRequest, ShareChange
from phxqueue.replica.errors import OutcomeUnknown
from tests.lock.rig import LockUnderTest, topic
from tests.stand_ins import Call

LEASE_MS = 5000


def keeping_of(lock: LockUnderTest) -> Keeping:
    return lock.service._groups[0].keeping


def fail_over(lock: LockUnderTest, seconds: float = 0.5) -> None:
    """Another node is master for a while that nobody hears of; then this one is, at the beginning of its term."""
    lock.group.lose(OutcomeUnknown("lost"), master=1)
    lock.clock.advance(seconds)
    lock.group.become_master()


def put_locks(lock: LockUnderTest, count: int) -> None:
    """Locks that are held by others; they stand ahead of those that are acquired from now on."""
    for number in range(count):
        lock.table.locks[f"other {number}"] = Lock(number + 1, "other", LEASE_MS, number + 1)


def after_each_turn(lock: LockUnderTest, look: Callable[[], int]) -> list[int]:
    """What `look` says after each call of the clock from now on."""
    seen: list[int] = []
    later = lock.clock.callLater

    def call_later(delay: float, act: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
        def turn() -> None:
            act(*args, **kwargs)
            seen.append(look())

        return later(delay, turn)

    lock.clock.callLater = call_later  # type: ignore[method-assign]
    return seen


def test_leases_begin_with_a_term_some_in_each_turn() -> None:
    lock = LockUnderTest()
    put_locks(lock, 2 * BEGIN_KEYS + 1)
    begun = after_each_turn(lock, lambda: len(keeping_of(lock).leases))
    fail_over(lock)
    assert len(keeping_of(lock).leases) == BEGIN_KEYS
    lock.clock.advance(0)
    assert begun == [2 * BEGIN_KEYS, 2 * BEGIN_KEYS + 1]
    lock.clock.advance(LEASE_MS / 1000 - 0.01)
    assert len(lock.table.locks) == 2 * BEGIN_KEYS + 1
    lock.clock.advance(0.02)
    assert not lock.table.locks


def test_a_term_that_ends_meanwhile_begins_no_more_leases() -> None:
    lock = LockUnderTest()
    put_locks(lock, BEGIN_KEYS + 1)
    fail_over(lock)
    lock.group.lose(OutcomeUnknown("lost"), master=1)
    lock.clock.advance(0)
    assert (len(keeping_of(lock).leases), keeping_of(lock).beginning) == (0, False)


def test_what_is_renewed_before_its_lease_has_begun_is_not_dated_back() -> None:
    lock = LockUnderTest()
    put_locks(lock, 2 * BEGIN_KEYS)
    version = lock.version(lease_time_ms=LEASE_MS)
    lock.clock.advance(LEASE_MS / 2000)
    lock.clock.advance(0)
    assert "a" in lock.table.silent
    fail_over(lock, 1.0)
    assert "a" in lock.table.inherited
    answer = lock.renew(version, lease_time_ms=LEASE_MS).answer
    assert answer.lock_info.remaining_ms == LEASE_MS
    lock.clock.advance(LEASE_MS / 1000 - 0.01)
    assert lock.holder() == "me", "it was told that it has all of its lease"
    lock.clock.advance(0.02)
    assert lock.holder() is None


def test_the_lease_of_a_silent_lock_runs_on_also_in_a_later_turn() -> None:
    lock = LockUnderTest()
    put_locks(lock, BEGIN_KEYS + 1)
    lock.version(lease_time_ms=LEASE_MS)
    lock.clock.advance(LEASE_MS / 2000)
    lock.clock.advance(0)
    fail_over(lock, 1.0)
    assert keeping_of(lock).leases.begun((0, "a")) is None
    assert keeping_of(lock).lock_info("a", lock.table.locks["a"]).remaining_ms == LEASE_MS, "for what is known yet"
    lock.clock.advance(0)
    assert 1400 <= lock.info().answer.lock_info.remaining_ms <= 1500


# ---- keys that move -------------------------------------------------------------------------------------------


def looks_at_keys(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many keys were looked at since this was asked last."""
    count = [0]
    owner = Territory.owner

    def counted(territory: Territory, key: str) -> int | None:
        count[0] += 1
        return owner(territory, key)

    def taken() -> int:
        taken, count[0] = count[0], 0
        return taken

    monkeypatch.setattr(Territory, "owner", counted)
    return taken


def change(lock: LockUnderTest, step: Any, share: Share) -> Call:
    wanted = ShareChange(step=step, share=share.message())
    return lock.call(methods.CHANGE_SHARE, ChangeShareRequest, change=wanted)


def large(count: int) -> LockUnderTest:
    """One of two lock groups, with all keys, and so many strings."""
    lock = LockUnderTest(of=topic(100, 0))
    assert change(lock, ShareChange.ADOPT, Share(1, ((1, 100),))).answer is not None
    for number in range(count):
        lock.table.strings[f"string {number}"] = String(number + 1, b"x", 0)
    return lock


def exported(lock: LockUnderTest) -> tuple[list[str], int]:
    """All keys that are exported, and in how many pages."""
    found, pages = list[str](), 0
    while True:
        answer = lock.call(methods.EXPORT_KEYS, ExportKeysRequest, skip=len(found)).answer
        found, pages = [*found, *(record.key for record in answer.records)], pages + 1
        if not answer.more:
            return found, pages


def test_keys_that_move_are_looked_for_once_and_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phxqueue.lock.moving.PAGE_BYTES", 10_000)
    count = 2 * PORTION_KEYS + 500
    lock, target = large(count), Share(2, ((1, 100), (2, 100)))
    assert change(lock, ShareChange.PREPARE, target).answer is not None
    looks = looks_at_keys(monkeypatch)
    looked = after_each_turn(lock, looks)
    found, pages = exported(lock)
    assert pages > 2
    assert looked[0] <= 2 * PORTION_KEYS  # with those of the call itself
    assert looked[1:] == [count - 2 * PORTION_KEYS]
    assert change(lock, ShareChange.COMMIT, target).answer is not None
    assert found == sorted(key for key in map("string {}".format, range(count)) if owner_of(target, key) == 2)
    assert lock.table.strings.keys() == {f"string {number}" for number in range(count)} - set(found)


def owner_of(share: Share, key: str) -> int | None:
    return Territory(1, Shares(share)).owner(key)


def test_after_a_change_was_given_up_keys_are_looked_for_anew() -> None:
    lock, target = large(10), Share(2, ((1, 0), (2, 100)))
    for names in (10, 11):
        assert change(lock, ShareChange.PREPARE, target).answer is not None
        answer = lock.call(methods.EXPORT_KEYS, ExportKeysRequest).answer
        assert len(answer.records) == names
        assert change(lock, ShareChange.ABANDON, target).answer is not None
        lock.table.strings["one more"] = String(99, b"x", 0)
    assert "moving" in lock.call(methods.EXPORT_KEYS, ExportKeysRequest).error.message


def test_a_node_that_is_master_no_more_drops_nothing() -> None:
    lock, target = large(2 * PORTION_KEYS), Share(2, ((1, 0), (2, 100)))
    assert change(lock, ShareChange.PREPARE, target).answer is not None
    moving = lock.service._groups[0].moving
    committed = Call(lambda: moving.change(ShareChange(step=ShareChange.COMMIT, share=target.message())))
    assert committed.pending
    lock.group.lose(OutcomeUnknown("lost"), master=1)
    lock.clock.advance(1.0)
    assert committed.error.status is Status.NOT_MASTER
    assert len(lock.table.strings) == 2 * PORTION_KEYS
