"""Deliberate bugs of the lock service: each breaks one rule in memory, for the length of a test.

``python -m tests.simulation.locks.mutants [NAME ...]`` tells which of the first seeds catch each of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from twisted.logger import globalLogBeginner

from phxqueue.lock.acquiring import Acquiring
from phxqueue.lock.expiry import Expiry
from phxqueue.lock.group import GroupService
from phxqueue.lock.keeping import Keeping
from phxqueue.lock.leases import Leases
from phxqueue.lock.records import LOCKS, Lock, Outcome
from phxqueue.lock.renewing import Renewing
from phxqueue.lock.silence import Silences
from phxqueue.lock.table import LockTable
from phxqueue.net.status import Status
from phxqueue.proto.lock_pb2 import LockOperation, RenewLocksRequest, RenewLocksResponse
from phxqueue.testing.sim.locks.run import LockOutcome, run

Patch = pytest.MonkeyPatch
MUTANTS: dict[str, Callable[[Patch], None]] = {}


def mutant(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """Add the decorated function to the table."""
    MUTANTS[apply.__name__] = apply
    return apply


def wrap(patch: Patch, owner: type, name: str, change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a method by what `change` makes of it."""
    patch.setattr(owner, name, change(getattr(owner, name)))


def caught(name: str, seeds: Iterable[int]) -> LockOutcome | None:
    """The first run that notices a mutant."""
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name](patch)
        return next((outcome for seed in seeds if (outcome := run(seed)).violation), None)


@mutant
def grants_while_held(patch: Patch) -> None:
    """The table gives a lock to whoever asks, as the original's did."""

    def acquire(self: LockTable, operation: LockOperation, version: int) -> Outcome:
        return self._put_lock(operation.key, Lock(version, operation.client_id, operation.lease_ms, version))

    patch.setattr(LockTable, "_acquire", acquire)


@mutant
def versions_go_down(patch: Patch) -> None:
    """A lock's version begins anew when it is free."""

    def change(put: Callable[..., Any]) -> Callable[..., Any]:
        def _put(self: LockTable, key: str, lock: Lock) -> Outcome:
            made: Outcome = put(self, key, Lock(lock.version & 0xFFFF, lock.client_id, lock.lease_ms, lock.stamp))
            return made

        return _put

    wrap(patch, LockTable, "_put_lock", change)


@mutant
def leases_go_on_under_a_new_master(patch: Patch) -> None:
    """A new master lets leases run out that only the former one knew to be renewed: early."""

    def change(restart: Callable[..., Any]) -> Callable[..., Any]:
        def _restart(self: Leases, leases: Any, now: float) -> None:
            restart(self, [(key, version, lease_ms // 4) for key, version, lease_ms in leases], now)

        return _restart

    wrap(patch, Leases, "restart", change)


@mutant
def leases_end_early(patch: Patch) -> None:
    """A lease ends a tenth before its length is over."""

    def change(begin: Callable[..., Any]) -> Callable[..., Any]:
        def _begin(self: Leases, key: Any, version: int, lease_ms: int, now: float) -> None:
            begin(self, key, version, lease_ms * 9 // 10, now)

        return _begin

    wrap(patch, Leases, "begin", change)


@mutant
def an_expiry_means_whoever_holds_it(patch: Patch) -> None:
    """The clean-up does not look at the version it was proposed for."""

    def expire(self: LockTable, operation: LockOperation, version: int) -> Outcome:
        return self._drop_lock(operation.key) if operation.key in self.locks else Outcome(Status.NOT_FOUND)

    patch.setattr(LockTable, "_expire_lock", expire)


@mutant
def renewed_while_an_expiry_is_under_way(patch: Patch) -> None:
    """A renewal is answered from memory, whatever the log is about to do."""
    patch.setattr(Keeping, "settled", lambda self, key: self.serving())


@mutant
def an_expiry_overtakes_a_renewal(patch: Patch) -> None:
    """What ends a lease does not tell it from the one that a renewal before it in the log has begun."""

    def change(put: Callable[..., Any]) -> Callable[..., Any]:
        def _put(self: LockTable, key: str, lock: Lock) -> Outcome:
            earlier = self.locks.get(key)
            if earlier is not None and earlier.version == lock.version:
                lock = Lock(lock.version, lock.client_id, lock.lease_ms, earlier.stamp)
            made: Outcome = put(self, key, lock)
            return made

        return _put

    wrap(patch, LockTable, "_put_lock", change)


@mutant
def renewed_in_memory_while_silent(patch: Patch) -> None:
    """A lock that the log says is silent is renewed without an entry: the next master does not know."""
    patch.setattr(Keeping, "renewable", lambda self, name: self.settled((LOCKS, name)))


@mutant
def silent_for_ever(patch: Patch) -> None:
    """A renewal through the log does not end the silence of a lock."""

    def change(put: Callable[..., Any]) -> Callable[..., Any]:
        def _put(self: LockTable, key: str, lock: Lock) -> Outcome:
            silence, earlier = self.silent.get(key), self.locks.get(key)
            made: Outcome = put(self, key, lock)
            if silence is not None and earlier is not None and earlier.version == lock.version:
                self.silent[key] = silence
            return made

        return _put

    wrap(patch, LockTable, "_put_lock", change)


@mutant
def silent_for_longer_than_it_was(patch: Patch) -> None:
    """A new master believes that the lease had begun twice as long ago as the entry says."""

    def seen(self: Silences) -> None:
        for silence in self._keeping.table.take_silenced():
            silence.begun = self._clock.seconds() - 2 * silence.passed_ms / 1000

    patch.setattr(Silences, "seen", seen)


@mutant
def renewed_without_a_lease(patch: Patch) -> None:
    """A master that may have been deposed answers reads and renewals from memory."""
    patch.setattr(Keeping, "serving", lambda self: self._proposals.term is not None)


@mutant
def renewed_together_without_a_look(patch: Patch) -> None:
    """Whoever renews many locks at once is told that all of them are his."""

    def change(many: Callable[..., Any]) -> Callable[..., Any]:
        def _many(self: Renewing, request: RenewLocksRequest) -> Any:
            if isinstance(answer := many(self, request), RenewLocksResponse):
                for renewal in answer.renewals:
                    renewal.Clear()
            return answer

        return _many

    wrap(patch, Renewing, "many", change)


@mutant
def terms_do_not_count(patch: Patch) -> None:
    """A former master's entries mean what they say, however late they come to light."""

    def change(apply: Callable[..., Any]) -> Callable[..., Any]:
        def _apply(self: LockTable, instance: int, payload: bytes) -> Any:
            from phxqueue.proto.lock_pb2 import LockCommand

            command = LockCommand.FromString(payload)
            if not command.begins_term:
                command.term = self.term
            return apply(self, instance, command.SerializeToString())

        return _apply

    wrap(patch, LockTable, "_apply_command", change)


@mutant
def served_before_the_term_has_begun(patch: Patch) -> None:
    """A new master answers from a table that lacks what the former one's clients were told."""

    def change(mastership: Callable[..., Any]) -> Callable[..., Any]:
        def _mastership(self: GroupService, is_master: bool) -> None:
            mastership(self, is_master)
            if is_master:
                self.proposals.term = self.table.term

        return _mastership

    wrap(patch, GroupService, "_mastership", change)
    patch.setattr(Keeping, "serving", lambda self: self._proposals.term is not None)


@mutant
def nothing_expires(patch: Patch) -> None:
    """Who vanishes keeps the lock."""
    patch.setattr(Expiry, "_expire", lambda self: None)


@mutant
def waiters_are_forgotten(patch: Patch) -> None:
    """Who waits is not told that the lock is free."""
    patch.setattr(Acquiring, "about_to_be_free", lambda self, name: None)


@mutant
def releases_are_not_applied(patch: Patch) -> None:
    """A lock that was given back stays."""
    patch.setattr(LockTable, "_release", lambda self, operation, version: Outcome(Status.OK))


@mutant
def checkpoint_without_term(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten which mastership it is in."""

    def change(restore: Callable[..., Any]) -> Callable[..., Any]:
        def _restore(self: LockTable, *arguments: Any) -> None:
            restore(self, *arguments)
            self.term = 0

        return _restore

    wrap(patch, LockTable, "restore", change)


@mutant
def strings_do_not_compare(patch: Patch) -> None:
    """A swap writes whatever is there."""

    def change(set_: Callable[..., Any]) -> Callable[..., Any]:
        def _set(self: LockTable, operation: LockOperation, version: int) -> Any:
            operation.ClearField("expected_version")
            return set_(self, operation, version)

        return _set

    wrap(patch, LockTable, "_set", change)


def main(names: list[str]) -> None:
    """Tell what catches each mutant."""
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    for name in names or MUTANTS:
        outcome = caught(name, range(300))
        print(f"{name}: {outcome or 'NOT CAUGHT'}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
