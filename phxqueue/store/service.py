"""The store's side of the RPC service: finds the Paxos group of a request, checks who may serve it, hands it on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from weakref import ref

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from phxqueue.config import StoreNode
from phxqueue.console.desk import AlarmSink, LogDesk
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.status_pb2 import AuditStatus, LedgerStatus, PassedOn, QueueStatus, RunTimeGroupStatus
from phxqueue.proto.store_pb2 import (
    AddRequest,
    AddResponse,
    CancelDelayedRequest,
    CancelDelayedResponse,
    GetRequest,
    GetResponse,
    GetSettingsRequest,
    GetSettingsResponse,
    ListDelayedRequest,
    ListDelayedResponse,
    SetSettingRequest,
    SetSettingResponse,
)
from phxqueue.reconcile.ledger import Ledger
from phxqueue.replica.interfaces import Clock
from phxqueue.store.add import add, check_address, disk_full, group_of_request
from phxqueue.store.audit_statuses import audit_statuses
from phxqueue.store.delays import LOOK_S
from phxqueue.store.entries import ParsedEntries
from phxqueue.store.get import get
from phxqueue.store.group import StoreGroup
from phxqueue.store.group_calls import GroupCalls
from phxqueue.store.half_calls import HalfCalls
from phxqueue.store.ledger_service import LedgerCalls
from phxqueue.store.ledger_watch import LedgerWatch
from phxqueue.store.long_poll import LongPolls
from phxqueue.store.passed_on import passed_on
from phxqueue.store.paxos_group import PaxosGroup, Shared
from phxqueue.store.replay_calls import ReplayCalls
from phxqueue.store.retention import RetentionPolicy
from phxqueue.store.run_time_statuses import run_time_statuses
from phxqueue.store.served import ServedQueues


class StoreService:
    """Answers Add and Get for the Paxos groups of one node.

    Args:
        node: the node's configuration.
        groups: the Paxos groups by id; their state machines are :class:`StoreQueues`.
        clock: monotonic seconds and timers: the reactor.
        accepting: False while the disk is below its low-water mark.
        wall: Unix time in seconds.
        look_s: longest time between looks at it while something is delayed.
        alarms: where they are raised; None: in the log alone.
    """

    def __init__(
        self,
        node: StoreNode,
        groups: Mapping[int, StoreGroup],
        clock: Clock,
        *,
        accepting: Callable[[], bool],
        wall: Callable[[], float] = time.time,
        look_s: float = LOOK_S,
        alarms: AlarmSink | None = None,
    ) -> None:
        self._node = node
        self._served = ServedQueues(node.topic, node.store)
        self._accepting = accepting
        self._stopping = False
        self._log = Logger(namespace="phxqueue.store")
        self._alarms = LogDesk(clock.seconds, wall) if alarms is None else alarms
        self.polls = LongPolls(clock, node.limits.max_long_polls)
        self._half_calls = HalfCalls(
            self._group_of_queue,
            lambda topic_id, store_id: check_address(self._served, topic_id, store_id),
            lambda: [group.halves for group in self._groups.values()],
            clock,
            most_polls=node.limits.max_long_polls,
            wait_max_ms=node.limits.get_wait_max_ms,
        )
        shared = Shared(
            node=node,
            polls=self.polls,
            # What is parsed is what was read a moment ago: a fraction of the entries kept in memory will do.
            parsed=ParsedEntries(max_bytes=node.limits.cache_bytes // 4),
            cold=ParsedEntries(max_bytes=node.limits.cache_bytes // 8),
            clock=clock,
            wall_ms=lambda: int(wall() * 1000),
            retention=self._retention,
            look_s=look_s,
            alarms=self._alarms,
            half_policy=lambda pub_id: self._served.half_policy(pub_id),
            asked=self._half_calls.asked,
            served=lambda: self._served,
        )
        self._groups = {group_id: PaxosGroup(group, shared) for group_id, group in groups.items()}
        self._watch = LedgerWatch(self._ledgers, self._alarms, clock, lambda: self._served, wall)
        self._clock = clock
        self._look_later = clock.callLater(node.limits.retention_interval_s, self._look)

    def register(self, service: RpcService) -> None:
        """Answer the store's calls on this port."""
        service.register(methods.ADD, self.add)
        service.register(methods.GET, self.get)
        service.register(methods.GET_SETTINGS, self.get_settings)
        service.register(methods.SET_SETTING, self.set_setting)
        service.register(methods.CANCEL_DELAYED, self.cancel_delayed)
        service.register(methods.LIST_DELAYED, self.list_delayed)
        ReplayCalls(self.serving_group).register(service)
        GroupCalls(self.serving_group).register(service)
        LedgerCalls(lambda *place: self.serving_group(*place)[0].ledger, self._hosted_group).register(service)
        self._half_calls.register(service)

    def reconfigure(self, node: StoreNode) -> None:
        """Serve by a new configuration from the next request on. Limits and times need a restart."""
        self._served = ServedQueues(node.topic, node.store)
        for group in self._groups.values():
            group.ledger.settings = node.topic.settings
            group.halves.begin()

    def queue_statuses(self) -> list[QueueStatus]:
        """The queues of the groups this node is master of, for NODE_STATUS."""
        return [status for group in self._mastered() for status in group.statuses(self._served)]

    def passed_on(self) -> list[PassedOn]:
        """What was not new among what the groups this node is master of have stored, by consumer group."""
        return passed_on([group.machine for group in self._mastered()])

    def run_time_groups(self) -> list[RunTimeGroupStatus]:
        """The consumer groups created at run time that the groups this node is master of know."""
        return run_time_statuses(group.machine.groups for group in self._mastered())

    def told_groups(self) -> list[int]:
        """The groups this node is master of, by a lease that holds."""
        return [group.group.group_id for group in self._mastered()]

    def _mastered(self) -> list[PaxosGroup]:
        return [group for group in self._groups.values() if group.group.serving()]

    def audits(self) -> list[AuditStatus]:
        """What became of the acknowledgements checked here, whoever is master now."""
        return list(audit_statuses((group.reading.audits for group in self._groups.values()), self._served))

    def ledgers(self) -> list[LedgerStatus]:
        """What is wrong in the ledgers of the groups this node is master of."""
        return self._watch.statuses()

    def _ledgers(self) -> list[tuple[int, Ledger]]:
        return [(number, one.machine.ledger) for number, one in self._groups.items() if one.group.serving()]

    def notices(self) -> list[str]:
        """What an operator should know, a sentence each."""
        groups = self._groups.values()
        return [notice for group in groups for notice in (group.delays.notice(), group.halves.notice()) if notice]

    def _retention(self, queue_id: int) -> RetentionPolicy | None:
        queue = self._served.queue(queue_id)
        return None if queue is None else queue.retention

    def _look(self) -> None:
        """See what time has made of the groups; what goes wrong in one of them does not keep others from their turn."""
        self._look_later = self._clock.callLater(self._node.limits.retention_interval_s, self._look)
        for group_id, group in self._groups.items():
            try:
                group.look()
            except Exception:
                self._log.failure("group {group}: looking after it failed; it is tried again", group=group_id)
        self._watch.look()
        self._alarms.look()

    def drain(self) -> Deferred[Any]:
        """Take no more requests, end all long polls, and fire when everything taken before has its outcome.

        It may take as long as there is no majority: the caller sets a limit.
        """
        self._stopping = True
        self.polls.close()
        self._half_calls.close()
        return DeferredList([group.proposals.drain() for group in self._groups.values()], consumeErrors=True)

    def close(self) -> None:
        """End all timers and refuse what still waits."""
        self._stopping = True
        if self._look_later.active():
            self._look_later.cancel()
        self.polls.close()
        self._half_calls.close()
        for group in self._groups.values():
            group.close()

    # ---- handlers ---------------------------------------------------------------------------------

    def add(self, request: AddRequest, context: CallContext) -> AddResponse | Deferred[AddResponse]:
        """Store batches; see :mod:`phxqueue.store.add`."""
        served = self._served
        check_address(served, request.topic_id, request.store_id)
        group = self._groups[group_of_request(served, request)]
        if self._stopping or not group.group.proposing():
            raise self._refusal(group)
        if not self._accepting():
            raise disk_full(self._node)
        if not group.machine.ledger.opened:
            group.ledger.look()  # before the first batch, so that it is in the books
        return add(request, served, group.intake)

    def get(self, request: GetRequest, context: CallContext) -> GetResponse | Deferred[GetResponse]:
        """Read and acknowledge; see :mod:`phxqueue.store.get`."""
        served = self._served
        check_address(served, request.topic_id, request.store_id)
        group = self._groups[request.queue_id % served.paxos_groups]
        if self._stopping or not group.group.serving():
            raise self._refusal(group)
        reader = request.reader_id or ref(context.connection)
        return get(request, served, group.reading, reader)

    def cancel_delayed(
        self, request: CancelDelayedRequest, context: CallContext
    ) -> CancelDelayedResponse | Deferred[CancelDelayedResponse]:
        """Drop a delayed batch; see :mod:`phxqueue.store.delays`."""
        check_address(self._served, request.topic_id, request.store_id)
        group = self._groups[request.queue_id % self._served.paxos_groups]
        if self._stopping or not group.group.proposing():
            raise self._refusal(group)
        return group.delays.cancel(request)

    def list_delayed(self, request: ListDelayedRequest, context: CallContext) -> ListDelayedResponse:
        """Show delayed batches; see :mod:`phxqueue.store.delays`."""
        return self._group_of_queue(request.topic_id, request.store_id, request.queue_id).delays.listed(request)

    def get_settings(self, request: GetSettingsRequest, context: CallContext) -> GetSettingsResponse:
        """Tell the settings of the topic; see :mod:`phxqueue.store.settings_table`."""
        return self.serving_group(request.topic_id, request.store_id, 0)[0].settings.get(request)

    def set_setting(self, request: SetSettingRequest, context: CallContext) -> Deferred[SetSettingResponse]:
        """Change one of them."""
        check_address(self._served, request.topic_id, request.store_id)
        group = self._groups[0]
        if self._stopping or not group.group.proposing():
            raise self._refusal(group)
        return group.settings.set(request)

    def _hosted_group(self, topic_id: int, store_id: int, queue_id: int) -> StoreGroup:
        check_address(self._served, topic_id, store_id)
        return self._groups[queue_id % self._served.paxos_groups].group

    def serving_group(self, topic_id: int, store_id: int, paxos_group: int) -> tuple[PaxosGroup, ServedQueues]:
        """What the master of a Paxos group keeps, and what is served; raises RpcError when it is not this node."""
        check_address(self._served, topic_id, store_id)
        group = self._groups.get(paxos_group)
        if group is None:
            raise RpcError(
                Status.INVALID_ARGUMENT, f"paxos_group: {paxos_group}; the store has {self._served.paxos_groups}"
            )
        if self._stopping or not group.group.serving():
            raise self._refusal(group)
        return group, self._served

    def _group_of_queue(self, topic_id: int, store_id: int, queue_id: int) -> PaxosGroup:
        return self.serving_group(topic_id, store_id, queue_id % self._served.paxos_groups)[0]

    def _refusal(self, group: PaxosGroup) -> RpcError:
        refusal = group.refusal()
        if self._stopping and refusal.status is not Status.NOT_MASTER:  # else it says where to go
            return RpcError(Status.NO_MASTER, f"{self._name} is stopping; its groups go to another node")
        return refusal

    @property
    def _name(self) -> str:
        return f"node {self._node.node.node_id} of store {self._node.store.store_id}"
