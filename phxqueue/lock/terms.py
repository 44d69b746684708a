"""Begins a term whenever this node becomes master of a Paxos group, by the first entry of its mastership.

When that entry has been applied, so has everything that former masters had chosen: what is in the table then is what
clients have been told. And whatever a former master's entries say that come to light later is void (table.py).
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.lock.records import Outcome
from phxqueue.lock.table import FIRST_VERSION
from phxqueue.proto.lock_pb2 import LockCommand, LockOperation
from phxqueue.replica.errors import NotServing, OutcomeUnknown, Overloaded
from phxqueue.replica.interfaces import Clock, DelayedCall
from phxqueue.replica.served_group import ServedGroup

#: When a full window or a busy journal is looked at again, in seconds; room that is told of comes sooner.
_RETRY_S = 0.05


class Terms:
    """Proposes the beginning of a term until it is applied or mastership is gone.

    Args:
        begun: called with the number of the term, right after its first entry has been applied here.
        number: gives any number of 64 bits; it tells this beginning from another master's at the same place.
        with_it: gives what else the first entry of a term shall do; None: nothing.
    """

    def __init__(
        self,
        group: ServedGroup,
        clock: Clock,
        *,
        begun: Callable[[int], None],
        number: Callable[[], int],
        with_it: Callable[[], LockOperation | None],
    ) -> None:
        self._group = group
        self._clock = clock
        self._begun = begun
        self._number = number
        self._with_it = with_it
        self._mastership = 0  # how many there have been; the present one's number while `_wanted`
        self._wanted = False
        self._retry: DelayedCall | None = None
        self._log = Logger(namespace="phxqueue.lock.terms")

    def become_master(self) -> None:
        """A mastership begins: begin a term."""
        self._mastership += 1
        self._wanted = True
        self._propose()

    def lose_mastership(self) -> None:
        """There is nothing to begin any more."""
        self._mastership += 1
        self._wanted = False
        self._stop_retry()

    def close(self) -> None:
        """End all timers."""
        self.lose_mastership()

    def _propose(self) -> None:
        self._stop_retry()
        if not self._wanted:
            return
        marker = LockOperation(kind=LockOperation.NONE, request_id=self._number())
        more = self._with_it()
        operations = [marker] if more is None else [marker, more]
        command = LockCommand(version=FIRST_VERSION, begins_term=True, operations=operations)
        outcome = self._group.propose(command.SerializeToString())
        mastership = self._mastership
        outcome.addCallbacks(self._applied, self._failed, callbackArgs=(mastership,), errbackArgs=(mastership,))
        outcome.addErrback(lambda failure: self._log.failure("beginning a term failed", failure))

    def _applied(self, outcome: Outcome, mastership: int) -> None:
        if self._wanted and mastership == self._mastership:
            self._wanted = False
            self._begun(self._group.state_machine.term)

    def _failed(self, failure: Failure, mastership: int) -> None:
        # NotServing, OutcomeUnknown: mastership is gone, and we are told so by ourselves.
        if failure.check(NotServing, OutcomeUnknown, Overloaded) is None:
            self._log.failure("the beginning of a term could not be proposed", failure)
        if self._wanted and mastership == self._mastership and self._retry is None:
            self._retry = self._clock.callLater(_RETRY_S, self._propose)

    def _stop_retry(self) -> None:
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self._retry = None
