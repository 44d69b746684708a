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
from phxqueue.lock.keeping import Keeping
from phxqueue.lock.leases import Leases
from phxqueue.lock.paxos_group import PaxosGroup
from phxqueue.lock.quarantine import Quarantine
from phxqueue.lock.records import LOCKS, Lock, Outcome
from phxqueue.lock.renewing import Renewing
from phxqueue.lock.silence import Silences
from phxqueue.lock.table import LockTable
from phxqueue.net.status import Status
from phxqueue.proto.lock_pb2 import LockOperation, RenewLocksResponse
from phxqueue.testing.sim.locks.run import LockOutcome, run
from tests.simulation.mutants.table import check_fits, replace, then, wrap

Patch = pytest.MonkeyPatch
MUTANTS: dict[str, Callable[[Patch], None]] = {}


def mutant(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """Add the decorated function to the table."""
    MUTANTS[apply.__name__] = apply
    return apply


def caught(name: str, seeds: Iterable[int]) -> LockOutcome | None:
    """The first run that notices a mutant.

    :raises BrokenMutant: what went wrong is the mutant itself.
    """
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name](patch)
        outcome = next((outcome for seed in seeds if (outcome := run(seed)).violation), None)
    if outcome is not None:
        check_fits(name, outcome)
    return outcome


@mutant
def grants_while_held(patch: Patch) -> None:
    """The table gives a lock to whoever asks, as the original's did."""

    def acquire(self: LockTable, operation: LockOperation, version: int) -> Outcome:
        return self._put_lock(operation.key, Lock(version, operation.client_id, operation.lease_ms, version))

    replace(patch, LockTable, "_acquire", acquire)


@mutant
def versions_go_down(patch: Patch) -> None:
    """A lock's version begins anew when it is free."""

    def change(put: Callable[..., Any]) -> Callable[..., Any]:
        def _put(self: LockTable, key: str, lock: Lock, *more: Any) -> Any:
            return put(self, key, Lock(lock.version & 0xFFFF, lock.client_id, lock.lease_ms, lock.stamp), *more)

        return _put

    wrap(patch, LockTable, "_put_lock", change)


@mutant
def leases_go_on_under_a_new_master(patch: Patch) -> None:
    """A new master lets leases run out that only the former one knew to be renewed: early."""

    def more(self: Expiry, *_: Any, **__: Any) -> None:
        leases, now = self._keeping.leases, self._clock.seconds()
        for key, lease in list(leases._leases.items()):
            leases.date_back(key, now - lease.length * 3 / 4)
        self.arm()

    then(patch, Expiry, "_begin", more)


@mutant
def leases_end_early(patch: Patch) -> None:
    """A lease ends a tenth before its length is over."""

    def change(begin: Callable[..., Any]) -> Callable[..., Any]:
        def _begin(self: Leases, key: Any, version: int, lease_ms: int, *more: Any) -> None:
            begin(self, key, version, lease_ms * 9 // 10, *more)

        return _begin

    wrap(patch, Leases, "begin", change)


@mutant
def an_expiry_means_whoever_holds_it(patch: Patch) -> None:
    """The clean-up does not look at the version it was proposed for."""

    def expire(self: LockTable, operation: LockOperation, version: int) -> Outcome:
        return self._drop_lock(operation.key) if operation.key in self.locks else Outcome(Status.NOT_FOUND)

    replace(patch, LockTable, "_expire_lock", expire)


@mutant
def renewed_while_an_expiry_is_under_way(patch: Patch) -> None:
    """A renewal is answered from memory, whatever the log is about to do."""
    replace(patch, Keeping, "settled", lambda self, key: self.serving())


@mutant
def an_expiry_overtakes_a_renewal(patch: Patch) -> None:
    """What ends a lease does not tell it from the one that a renewal before it in the log has begun."""

    def change(put: Callable[..., Any]) -> Callable[..., Any]:
        def _put(self: LockTable, key: str, lock: Lock, *more: Any) -> Any:
            earlier = self.locks.get(key)
            if earlier is not None and earlier.version == lock.version:
                lock = Lock(lock.version, lock.client_id, lock.lease_ms, earlier.stamp)
            return put(self, key, lock, *more)

        return _put

    wrap(patch, LockTable, "_put_lock", change)


@mutant
def renewed_in_memory_while_silent(patch: Patch) -> None:
    """A lock that the log says is silent is renewed without an entry: the next master does not know."""
    replace(patch, Keeping, "renewable", lambda self, name: self.settled((LOCKS, name)))


@mutant
def silent_for_ever(patch: Patch) -> None:
    """A renewal through the log does not end the silence of a lock."""

    def change(put: Callable[..., Any]) -> Callable[..., Any]:
        def _put(self: LockTable, key: str, lock: Lock, *more: Any) -> Any:
            silence, earlier = self.silent.get(key), self.locks.get(key)
            made = put(self, key, lock, *more)
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

    replace(patch, Silences, "seen", seen)


@mutant
def a_silence_counts_in_every_later_term(patch: Patch) -> None:
    """What was silent once is inherited by masters to come, though one in between has renewed it without an entry."""

    def change(apply: Callable[..., Any]) -> Callable[..., Any]:
        def _apply(self: LockTable, *entry: Any) -> Any:
            term, earlier = self.term, self.inherited
            outcome = apply(self, *entry)
            if self.term != term:
                self.inherited = {**earlier, **self.inherited}
            return outcome

        return _apply

    wrap(patch, LockTable, "_apply_command", change)


@mutant
def renewed_without_a_lease(patch: Patch) -> None:
    """A master that may have been deposed answers reads and renewals from memory."""
    replace(patch, Keeping, "serving", lambda self: self._proposals.term is not None)


@mutant
def renewed_together_without_a_look(patch: Patch) -> None:
    """Whoever renews many locks at once is told that all of them are his."""

    def change(many: Callable[..., Any]) -> Callable[..., Any]:
        def _many(self: Renewing, *request: Any) -> Any:
            if isinstance(answer := many(self, *request), RenewLocksResponse):
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
        def _mastership(self: PaxosGroup, is_master: bool) -> None:
            mastership(self, is_master)
            if is_master:
                self.proposals.term = self.table.term

        return _mastership

    wrap(patch, PaxosGroup, "_mastership", change)
    replace(patch, Keeping, "serving", lambda self: self._proposals.term is not None)


@mutant
def nothing_expires(patch: Patch) -> None:
    """Who vanishes keeps the lock."""
    replace(patch, Expiry, "_expire", lambda self: None)


@mutant
def waiters_are_forgotten(patch: Patch) -> None:
    """Who waits is not told that the lock is free."""
    replace(patch, Acquiring, "about_to_be_free", lambda self, name: None)


@mutant
def releases_are_not_applied(patch: Patch) -> None:
    """A lock that was given back stays."""
    replace(patch, LockTable, "_release", lambda self, operation, version: Outcome(Status.OK))


@mutant
def checkpoint_without_term(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten which mastership it is in."""

    def forget(self: LockTable, *_: Any) -> None:
        self.term = 0

    then(patch, LockTable, "restore", forget)


@mutant
def a_restored_group_grants_at_once(patch: Patch) -> None:
    """Nobody waits until the leases have run out of which a backup knows nothing."""

    def change(acquire: Callable[..., Any]) -> Callable[..., Any]:
        def _acquire(self: LockTable, *arguments: Any) -> Any:
            quarantine_ms, self.quarantine_ms = self.quarantine_ms, 0
            outcome = acquire(self, *arguments)
            self.quarantine_ms = quarantine_ms
            return outcome

        return _acquire

    wrap(patch, LockTable, "_acquire", change)


@mutant
def a_restored_group_waits_for_too_short_a_time(patch: Patch) -> None:
    """Its master ends the time in which nothing is granted when half of it is over."""

    def change(begin: Callable[..., None]) -> Callable[..., None]:
        def _begin(self: Quarantine, *arguments: Any) -> None:
            whole = self._keeping.table.quarantine_ms
            self._keeping.table.quarantine_ms = whole // 2
            begin(self, *arguments)
            self._keeping.table.quarantine_ms = whole

        return _begin

    wrap(patch, Quarantine, "begin", change)


@mutant
def a_restored_group_grants_after_a_restart(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten that its group must not grant yet."""

    def forget(self: LockTable, *_: Any) -> None:
        self.quarantine_ms = 0

    then(patch, LockTable, "restore", forget)


@mutant
def a_restored_group_never_grants(patch: Patch) -> None:
    """Nobody ends the time in which nothing is granted."""
    replace(patch, Quarantine, "_open", lambda self: None)


@mutant
def a_restored_group_gives_its_tokens_again(patch: Patch) -> None:
    """Versions go on where the backup ended, not above all that were given."""

    def change(begin: Callable[..., Any]) -> Callable[..., Any]:
        def _begin_again(self: LockTable, *arguments: Any) -> Any:
            outcome = begin(self, *arguments)
            self.lift = 0
            return outcome

        return _begin_again

    wrap(patch, LockTable, "_begin_again", change)


@mutant
def strings_do_not_compare(patch: Patch) -> None:
    """A swap writes whatever is there."""

    def change(set_: Callable[..., Any]) -> Callable[..., Any]:
        def _set(self: LockTable, operation: LockOperation, *more: Any) -> Any:
            operation.ClearField("expected_version")
            return set_(self, operation, *more)

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
