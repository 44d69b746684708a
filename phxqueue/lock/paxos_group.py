"""Everything the master of one Paxos group of a lock group does: the calls, and what follows from entries and time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from google.protobuf.message import Message
from twisted.internet.defer import Deferred

from phxqueue.config import LockNode
from phxqueue.lock.acquiring import Acquiring
from phxqueue.lock.expiry import Expiry
from phxqueue.lock.first_share import FirstShare
from phxqueue.lock.keeping import Keeping, failure_of, not_found
from phxqueue.lock.moving import RETRY_MS, Moving
from phxqueue.lock.operations import (
    acquire_operation,
    delete_operation,
    release_operation,
    set_operation,
)
from phxqueue.lock.proposals import Proposals, Result
from phxqueue.lock.quarantine import Quarantine
from phxqueue.lock.reading import Reading
from phxqueue.lock.records import LOCKS, STRINGS, Record, TableKey
from phxqueue.lock.renewing import Renewing, own
from phxqueue.lock.table import LockTable
from phxqueue.lock.terms import Terms
from phxqueue.lock.watches import Watches
from phxqueue.net.routing import Caller
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import (
    AcquireLockRequest,
    AcquireLockResponse,
    ChangeShareRequest,
    ChangeShareResponse,
    DeleteStringRequest,
    DeleteStringResponse,
    ExportKeysRequest,
    ExportKeysResponse,
    GetShareRequest,
    GetShareResponse,
    LockOperation,
    ReleaseLockRequest,
    ReleaseLockResponse,
    SetStringRequest,
    SetStringResponse,
)
from phxqueue.proto.status_pb2 import LockTableStatus
from phxqueue.replica.interfaces import Clock
from phxqueue.replica.served_group import ServedGroup, not_serving

ResponseT = TypeVar("ResponseT", bound=Message)


class PaxosGroup:
    """Answers the calls for the keys of one Paxos group; what is wrong with a request is found before.

    Args:
        group: the Paxos group; its state machine is a :class:`LockTable`.
        node: the node's configuration.
        clock: monotonic seconds and timers.
        accepting: False while the disk is below its low-water mark.
        may_wait: checks that one more acquisition may wait on this node; raises RpcError.
        may_watch: whether one more call may wait for a change.
        number: gives any number of 64 bits.
        caller: finds the masters of the topic's other lock groups; None: there is nobody to agree with.
    """

    def __init__(
        self,
        group: ServedGroup,
        node: LockNode,
        clock: Clock,
        *,
        accepting: Callable[[], bool],
        may_wait: Callable[[], None],
        may_watch: Callable[[], bool],
        number: Callable[[], int],
        caller: Caller | None,
    ) -> None:
        self.group = group
        self.table: LockTable = group.state_machine
        self.watches = Watches(clock)
        self._node = node
        self._limits = node.limits
        self._clock = clock
        self.proposals = self._way_to_the_log()
        self.keeping = Keeping(group, self.proposals, node.limits, clock, accepting)
        self.acquiring = Acquiring(self.keeping, clock, may_wait)
        self.moving = Moving(
            node,
            self.table,
            self.keeping,
            clock,
            check_proposing=self._check_proposing,
            closed=self._closed,
            opened=self._opened,
        )
        self.renewing = Renewing(
            self.keeping,
            clock,
            node.limits,
            group.group_id,
            node.lock.paxos_groups,
            check_place=self.check_place,
            check_proposing=self._check_proposing,
            waiters=self.acquiring.waiters.count,
        )
        self.reading = Reading(
            self.keeping,
            self.watches,
            node.limits,
            may_watch=may_watch,
            waiters=self.acquiring.waiters.count,
            elsewhere=self.moving.refusal,
            refuse=self.refusal,
        )
        self._first_share = self._agreement(caller)
        self._expiry = Expiry(
            self.keeping,
            clock,
            node.limits,
            self.acquiring.about_to_be_free,
            self.moving.is_open,
            lambda: group.lowest_version,
        )
        self._quarantine = Quarantine(self.keeping, clock)
        self._terms = Terms(group, clock, begun=self._term_begun, number=number, with_it=self.moving.first_share)
        self.table.watch()
        group.on_applied.append(self._applied)
        group.on_mastership.append(self._mastership)
        if group.proposing():  # mastership may be older than this service
            self._terms.become_master()

    def _way_to_the_log(self) -> Proposals:
        return Proposals(
            self.group,
            self._limits,
            self._clock,
            refuse=self.refusal,
            quarantined=lambda: self._quarantine.refusal(),
            before_answers=self._take_changes,
        )

    def _agreement(self, caller: Caller | None) -> FirstShare | None:
        node = self._node
        if caller is None or len(node.topic.locks) <= 1:
            return None
        return FirstShare(
            (node.lock.lock_id, self.group.group_id),
            node.topic,
            caller,
            self._clock,
            known=lambda: self.table.shares.share is not None,
            adopt=self.moving.adopt,
        )

    def refusal(self) -> RpcError:
        """The answer while this group cannot be served here."""
        if self.group.proposing() and self.proposals.term is None:
            return RpcError(
                Status.NO_MASTER, f"group {self.group.group_id}: this node has just become master: ask again"
            )
        return not_serving(self.group, self._node.lock, self._node.node.node_id)

    def status(self) -> LockTableStatus:
        """What an operator wants to know of the table."""
        return LockTableStatus(
            group_id=self.group.group_id,
            locks=len(self.table.locks),
            strings=len(self.table.strings),
            bytes=self.table.size,
            waiters=len(self.acquiring.waiters),
            watches=len(self.watches),
            expired=self._expiry.expired,
        )

    def stop_waiting(self, refuse: Callable[[], RpcError]) -> None:
        """Let nobody wait here any longer: this node is stopping."""
        self.acquiring.abandon(refuse)
        self.watches.release()

    def close(self) -> None:
        """Refuse what waits, end all timers and let go of the group."""
        self.group.on_applied.remove(self._applied)
        self.group.on_mastership.remove(self._mastership)
        self._terms.close()
        self._end_term()
        self.acquiring.abandon(self.refusal)
        self.proposals.close()
        self.watches.release()

    # ---- what happens -----------------------------------------------------------------------------

    def _mastership(self, is_master: bool) -> None:
        """Whatever a former mastership knew beside the table is void, whichever way it changed."""
        self._terms.lose_mastership()
        self._end_term()
        self.moving.reset()
        self.proposals.abandon()
        self.acquiring.abandon(self.refusal)
        self.watches.release()
        if is_master:
            self._terms.become_master()

    def _term_begun(self, term: int) -> None:
        self._take_changes()
        self._expiry.term_begun()
        self._quarantine.begin()
        self.proposals.begin(term, self.moving.refusal)
        if self._first_share is not None:
            self._first_share.begin()

    def _end_term(self) -> None:
        self._quarantine.end()
        self._expiry.end()
        if self._first_share is not None:
            self._first_share.end()

    def _closed(self) -> None:
        """Keys are about to move: who waits asks again, here or where they go."""
        self.acquiring.abandon(self._is_moving)
        self.watches.release()

    def _is_moving(self) -> RpcError:
        return RpcError(Status.RESOURCE_EXHAUSTED, "keys are moving: ask again", retry_after_ms=RETRY_MS)

    def _opened(self) -> None:
        """Other keys than before are served from now on."""
        self.acquiring.abandon(self._is_moving)
        self.watches.release()
        self._expiry.begin()

    def check_place(self, key: TableKey) -> None:
        """Refuse a key that this lock group does not serve, or not now. Raises RpcError.

        A node that is not master, or only just, does not know: it says who is, or takes the call in until it does.
        """
        if self.proposals.term is not None:
            refusal = self.moving.refusal(key)
            if refusal is not None:
                raise refusal

    def _applied(self, instance: int, payload: bytes) -> None:
        self._take_changes()

    def _take_changes(self) -> None:
        """Something has been applied: leases begin and end, it may be somebody's turn, and who watches is told."""
        self._expiry.seen()
        changed = self.table.take_changed()
        if not changed or self.proposals.term is None:
            return
        for key in changed:
            self._expiry.note(key)
        for key in changed:
            if key[0] == LOCKS:
                self.acquiring.changed(key[1])
            self.watches.touch(key)
        self._expiry.arm()

    # ---- shares of the keys ------------------------------------------------------------------------

    def get_share(self, request: GetShareRequest) -> GetShareResponse:
        """Which keys belong where, as this group knows."""
        self._check_serving()
        return self.moving.share()

    def export_keys(self, request: ExportKeysRequest) -> Deferred[ExportKeysResponse]:
        """What is under the keys that are leaving."""
        self._check_serving()
        return self.moving.export(request.skip)

    def change_share(self, request: ChangeShareRequest) -> Deferred[ChangeShareResponse]:
        """One step towards another share."""
        self._check_serving()
        return self.moving.change(request.change)

    # ---- changing ---------------------------------------------------------------------------------

    def acquire_lock(self, request: AcquireLockRequest) -> Deferred[AcquireLockResponse]:
        """Get a lock, wait for it, or be told who has it."""
        operation = acquire_operation(request, self._limits)
        self._check_proposing()
        wait_s = min(request.wait_ms, self._limits.wait_max_ms) / 1000
        return self.acquiring.acquire(operation, wait_s, request.waited_ms / 1000)

    def release_lock(self, request: ReleaseLockRequest) -> Deferred[ReleaseLockResponse]:
        """Give a lock back."""
        operation = release_operation(request, self._limits)
        self._check_proposing()
        key = (LOCKS, request.lock_key)
        if self.keeping.settled(key):
            if self.table.record(key) is None:
                raise not_found(key)
            if not operation.force:
                own(self.table.record(key), key, operation)
        answer = self._changed(key, operation, lambda _: ReleaseLockResponse())
        self.acquiring.about_to_be_free(request.lock_key)
        return answer

    def set_string(self, request: SetStringRequest) -> Deferred[SetStringResponse]:
        """Write a string."""
        operation = set_operation(request, self._limits)
        self._check_proposing()
        return self._changed((STRINGS, request.key), operation, _written)

    def delete_string(self, request: DeleteStringRequest) -> Deferred[DeleteStringResponse]:
        """Remove a string."""
        operation = delete_operation(request, self._limits)
        self._check_proposing()
        return self._changed((STRINGS, request.key), operation, lambda _: DeleteStringResponse())

    def _check_serving(self) -> None:
        if not self.keeping.serving():
            raise self.refusal()

    def _check_proposing(self) -> None:
        if not self.group.proposing():
            raise self.refusal()

    def _changed(
        self, key: TableKey, operation: LockOperation, respond: Callable[[Record | None], ResponseT]
    ) -> Deferred[ResponseT]:
        """Have an operation carried out, and answer by what it has left under the key."""
        self.keeping.check_room(operation)
        answer: Deferred[ResponseT] = Deferred()
        self.keeping.change(key, operation, partial(_answer, key, respond, answer))
        return answer


def _written(string: Record | None) -> SetStringResponse:
    assert string is not None
    return SetStringResponse(version=string.version)


def _answer(
    key: TableKey, respond: Callable[[Record | None], ResponseT], answer: Deferred[ResponseT], result: Result
) -> None:
    if isinstance(result, RpcError):
        answer.errback(result)
    elif result.status is Status.OK:
        answer.callback(respond(result.record))
    else:
        answer.errback(failure_of(key, result.status, result.record))
