"""The stores of a topic: real queues and services over groups that choose every entry at once, and calls to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from inspect import iscoroutine
from math import inf
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from phxqueue.config import Cluster, NodeAddress, Store, StoreLimits, StoreNode, Topic
from phxqueue.net.identity import ANONYMOUS
from phxqueue.net.routing import Route
from phxqueue.net.service import RpcService
from phxqueue.proto.methods import Method
from phxqueue.proto.status_pb2 import QueueStatus
from phxqueue.store import ledger_watch
from phxqueue.store.queues import COMMAND_VERSION, VALUE_KIND, StoreQueues
from phxqueue.store.service import StoreService

#: Seconds between a store's looks: a little more than between the ledger's, so that each is one of those, too.
_INTERVAL_S = ledger_watch.LOOK_S + 1.0


class MemoryGroup:
    """A Paxos group of one: always master; what is proposed is chosen and applied at the end of the turn."""

    def __init__(self, group_id: int, clock: IReactorTime) -> None:
        self.group_id = group_id
        self.state_machine = StoreQueues()
        self.on_applied: list[Callable[[int, bytes], None]] = []
        self.on_mastership: list[Callable[[bool], None]] = []
        self.on_hand_over: list[Callable[[], None]] = []
        self.on_window_free: list[Callable[[], None]] = []
        self._clock = clock
        self._entries: list[bytes] = []

    @property
    def window_free(self) -> bool:
        """There is always room."""
        return True

    @property
    def lowest_version(self) -> int:
        """There is nobody with an older one."""
        return COMMAND_VERSION

    def serving(self) -> bool:
        """There is nobody else."""
        return True

    def proposing(self) -> bool:
        """There is nobody else."""
        return True

    def master_node(self) -> int | None:
        """The only node."""
        return 0

    def unreachable_reason(self) -> str:
        """Never asked for."""
        return "in memory"

    def propose(self, payload: bytes) -> Deferred[Any]:
        """Choose an entry."""
        result: Deferred[Any] = Deferred()
        self._clock.callLater(0, self._apply, payload, result)
        return result

    def _apply(self, payload: bytes, result: Deferred[Any]) -> None:
        instance = len(self._entries)
        self._entries.append(payload)
        result.callback(self.state_machine.apply(instance, VALUE_KIND, payload))
        for callback in self.on_applied:
            callback(instance, payload)

    def cached(self, instance: int) -> bytes | None:
        """Everything is in memory."""
        return self._entries[instance]

    def read(self, instances: Sequence[int]) -> Deferred[list[bytes]]:
        """Everything is in memory."""
        return succeed([self._entries[instance] for instance in instances])

    def read_stored(self, instances: Sequence[int]) -> Deferred[list[bytes]]:
        """There is nothing else."""
        return self.read(instances)


class _Connection:
    """There is one, of everybody."""


class _Context:
    """What a service may know of a call."""

    connection = _Connection()
    peer = ANONYMOUS
    deadline: float | None = None
    cancelled = False

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Nobody holds anything besides the Deferred returned, and that is cancelled itself."""


class MemoryStores:
    """All stores of a topic, one node each; takes the place of net.routing.MasterClient.

    Attributes:
        calls: requests so far.
    """

    def __init__(self, topic: Topic, clock: IReactorTime, wall: Callable[[], float]) -> None:
        self.calls = 0
        self._clock = clock
        self._tables: dict[int, RpcService] = {}
        self._services: dict[int, StoreService] = {}
        self._groups: list[MemoryGroup] = []
        for store in topic.stores:
            self._tables[store.store_id] = table = RpcService(f"store {store.store_id} in memory")
            groups = {group_id: MemoryGroup(group_id, clock) for group_id in range(store.paxos_groups)}
            self._groups += groups.values()
            self._services[store.store_id] = service = _service(topic, store, groups, clock, wall)
            service.register(table)

    def call(
        self,
        route: Route,
        method: Method[Any, Any],
        request: Any,
        deadline_s: float,
        *,
        try_timeout_s: float | None = None,
        searching: Any = None,
    ) -> Deferred[Any]:
        """Call a store. Messages are copied and come a turn later, as they would on a wire."""
        self.calls += 1
        arrived: Deferred[Any] = Deferred()
        sent = self._clock.callLater(0, arrived.callback, request.SerializeToString())
        arrived.addCallback(self._answer, request.store_id, method)
        arrived.addErrback(_forget, sent)
        return arrived.addCallback(lambda message: method.response.FromString(message.SerializeToString()))

    def _answer(self, wire: bytes, store_id: int, method: Method[Any, Any]) -> Any:
        row = self._tables[store_id].table[method.number]
        answer = row.handler(row.parse(wire), _Context())  # type: ignore[arg-type]
        return Deferred.fromCoroutine(answer) if iscoroutine(answer) else answer

    def queues(self) -> Iterator[tuple[int, QueueStatus]]:
        """Every queue that holds something, with the number of its store."""
        for store_id, service in self._services.items():
            for status in service.queue_statuses():
                yield store_id, status

    def next_delayed(self) -> float | None:
        """When the next delayed item is due, Unix seconds; None: there is none."""
        due = [group.state_machine.timers.first_due_ms for group in self._groups]
        return min((at_ms / 1000 for at_ms in due if at_ms is not None), default=None)

    def close(self) -> None:
        """End all timers."""
        for service in self._services.values():
            service.close()


def _forget(failure: Failure, sent: IDelayedCall) -> Failure:
    """A call that was cancelled on its way does not arrive."""
    if sent.active():
        sent.cancel()
    return failure


def _service(
    topic: Topic, store: Store, groups: Mapping[int, MemoryGroup], clock: IReactorTime, wall: Callable[[], float]
) -> StoreService:
    address = NodeAddress(0, "127.0.0.1", 0, 0)
    alone = replace(store, nodes=(address,))
    node = StoreNode(
        cluster=Cluster(topics=(topic,)),
        topic=topic,
        store=alone,
        node=address,
        data_dir=Path("memory"),
        # Nothing is trimmed in a test, and looking for it once a second is work for every second that is skipped. But
        # the same look raises the alarms of the ledger: it comes as often as those are due.
        limits=StoreLimits(retention_interval_s=_INTERVAL_S),
    )
    return StoreService(node, groups, clock, accepting=lambda: True, wall=wall, look_s=inf)
