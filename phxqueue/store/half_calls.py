"""The calls about half messages, and the long polls of the producers that are asked about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.store_pb2 import (
    DecideHalfRequest,
    DecideHalfResponse,
    HalfMessage,
    ListHalvesRequest,
    ListHalvesResponse,
    PollCheckBacksRequest,
    PollCheckBacksResponse,
    ShowHalfRequest,
    ShowHalfResponse,
)
from phxqueue.replica.interfaces import Clock, DelayedCall
from phxqueue.store.half_table import Half

if TYPE_CHECKING:
    from phxqueue.store.half_service import Halves
    from phxqueue.store.paxos_group import PaxosGroup

FindGroup = Callable[[int, int, int], "PaxosGroup"]
"""find(topic id, store id, queue id); raises RpcError when this node is not the master of its Paxos group."""

#: Half messages in one answer to a poll, and bytes of their items beyond which no further one is added.
ASK_MOST = 16
ASK_BYTES = 1 << 20


class _Poll:
    """One poll that waits."""

    def __init__(self, name: str, most: int) -> None:
        self.name = name
        self.most = most
        self.answer: Deferred[PollCheckBacksResponse] = Deferred()
        self.timer: DelayedCall | None = None


class HalfCalls:
    """Of one node.

    Args:
        find: the group of a queue.
        check: refuses requests for another topic or store.
        halves: of all groups of the node.
        most_polls: polls that may wait.
        wait_max_ms: longest wait; a longer wish is shortened.
    """

    def __init__(
        self,
        find: FindGroup,
        check: Callable[[int, int], None],
        halves: Callable[[], Iterable[Halves]],
        clock: Clock,
        *,
        most_polls: int,
        wait_max_ms: int,
    ) -> None:
        self._find = find
        self._check = check
        self._halves = halves
        self._clock = clock
        self._most_polls = most_polls
        self._wait_max_ms = wait_max_ms
        self._polls: dict[str, dict[_Poll, None]] = {}
        self._waiting = 0
        self._soon: DelayedCall | None = None
        self._closed = False

    def register(self, service: RpcService) -> None:
        """Answer them on this port."""
        service.register(methods.DECIDE_HALF, self.decide)
        service.register(methods.LIST_HALVES, self.list)
        service.register(methods.SHOW_HALF, self.show)
        service.register(methods.POLL_CHECK_BACKS, self.poll)

    def decide(
        self, request: DecideHalfRequest, context: CallContext
    ) -> DecideHalfResponse | Deferred[DecideHalfResponse]:
        """Commit one, or roll it back."""
        return self._find(request.topic_id, request.store_id, request.queue_id).halves.decide(request)

    def list(self, request: ListHalvesRequest, context: CallContext) -> ListHalvesResponse:
        """Show some."""
        return self._find(request.topic_id, request.store_id, request.queue_id).halves.listed(request)

    def show(self, request: ShowHalfRequest, context: CallContext) -> Deferred[ShowHalfResponse]:
        """Show one."""
        group = self._find(request.topic_id, request.store_id, request.queue_id)
        return Deferred.fromCoroutine(group.halves.show(request))

    # ---- polls -------------------------------------------------------------------------------------

    def poll(self, request: PollCheckBacksRequest, context: CallContext) -> Deferred[PollCheckBacksResponse]:
        """Answer with what producers of a name are to be asked about, as soon as there is something."""
        self._check(request.topic_id, request.store_id)
        if not request.name:
            raise RpcError(Status.INVALID_ARGUMENT, "name: of the producers that answer")
        if self._closed or self._waiting >= self._most_polls:
            raise RpcError(
                Status.RESOURCE_EXHAUSTED,
                f"{self._waiting} polls for check-backs wait (limits.max_long_polls {self._most_polls}), or the node "
                "is stopping",
                retry_after_ms=1000,
            )
        poll = _Poll(request.name, min(request.limit or ASK_MOST, ASK_MOST))
        poll.answer = Deferred(lambda _: self._forget(poll))
        self._polls.setdefault(poll.name, {})[poll] = None
        self._waiting += 1
        wait_s = min(request.wait_ms, self._wait_max_ms) / 1000
        poll.timer = self._clock.callLater(wait_s, self._expire, poll)
        for halves in self._halves():
            halves.look()
        return poll.answer

    def asked(self, names: Sequence[str]) -> None:
        """Producers of these names are to be asked something."""
        if self._soon is None and not self._closed and any(name in self._polls for name in names):
            self._soon = self._clock.callLater(0, self._ask)

    def _ask(self) -> None:
        """Give out the questions, at the end of a turn of the reactor."""
        self._soon = None
        for name in list(self._polls):
            while name in self._polls:
                poll = next(iter(self._polls[name]))
                found: list[tuple[Halves, list[Half]]] = []
                left = poll.most
                for halves in self._halves():
                    questions = halves.questions(name, left)
                    left -= len(questions)
                    if questions:
                        found.append((halves, questions))
                if not found:
                    break
                self._forget(poll)
                answered = Deferred.fromCoroutine(_with_items(found))
                answered.addCallbacks(poll.answer.callback, poll.answer.errback)

    def _forget(self, poll: _Poll) -> None:
        waiting = self._polls.get(poll.name)
        if waiting is None or poll not in waiting:
            return
        del waiting[poll]
        if not waiting:
            del self._polls[poll.name]
        self._waiting -= 1
        if poll.timer is not None and poll.timer.active():
            poll.timer.cancel()

    def _expire(self, poll: _Poll) -> None:
        self._forget(poll)
        poll.answer.callback(PollCheckBacksResponse())

    def close(self) -> None:
        """Answer all polls with nothing, and let nobody wait any more."""
        self._closed = True
        for polls in list(self._polls.values()):
            for poll in list(polls):
                self._expire(poll)
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        self._soon = None


async def _with_items(found: Sequence[tuple[Halves, Sequence[Half]]]) -> PollCheckBacksResponse:
    """What does not fit any more is asked about again at its next time."""
    response = PollCheckBacksResponse()
    size = 0
    for halves, questions in found:
        messages: list[HalfMessage] = await halves.with_items(questions)
        for message in messages:
            if not size or size + len(message.items) <= ASK_BYTES:
                size += len(message.items)
                response.halves.append(message)
    return response
