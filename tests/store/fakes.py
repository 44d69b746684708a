"""What the store's tests share: commands by value, a configuration, and a store node on virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from phxqueue.config import (
    Cluster,
    ConsumerGroup,
    NodeAddress,
    Pub,
    QueueInfo,
    Store,
    StoreLimits,
    StoreNode,
    Topic,
    TopicSettings,
)
from phxqueue.net.status import Status
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch
from phxqueue.proto.store_pb2 import (
    AddRequest,
    CancelTimer,
    CursorMove,
    FireTimers,
    GetRequest,
    QueueTrim,
    StoreCommand,
)
from phxqueue.reconcile.ledger import Ledger
from phxqueue.replica.errors import EntryUnreadable
from phxqueue.store.ledger_service import ledger_bounds
from phxqueue.store.outcomes import Outcome
from phxqueue.store.queues import COMMAND_VERSION, StoreQueues
from phxqueue.store.service import StoreService
from tests.stand_ins import NO_CONTEXT, VALUE, Call, FakeGroup

NOW_MS = 1_700_000_000_000


def batch(
    queue_id: int = 1,
    count: int = 1,
    *,
    items: bytes = b"items",
    pub_id: int = 1,
    mask: int = 0b11,
    producer_id: int = 0,
    sequence: int = 0,
    digest: int = 0,
    deliver_at_ms: int = 0,
) -> ItemBatch:
    """One batch; not idempotent unless it has a sequence."""
    header = BatchHeader(
        queue_id=queue_id,
        pub_id=pub_id,
        consumer_group_ids=mask,
        count=count,
        first_atime_ms=NOW_MS,
        last_atime_ms=NOW_MS,
        digest_sum=digest,
        producer_id=producer_id,
        sequence=sequence,
        deliver_at_ms=deliver_at_ms,
    )
    return ItemBatch(header=header, items=items)


def move(queue_id: int, consumer_group_id: int, acked: int) -> CursorMove:
    return CursorMove(queue_id=queue_id, consumer_group_id=consumer_group_id, acked=acked)


def command(
    *batches: ItemBatch,
    moves: Iterable[CursorMove] = (),
    trims: Iterable[QueueTrim] = (),
    cancels: Iterable[tuple[int, int]] = (),
    fire: FireTimers | None = None,
    at_ms: int = NOW_MS,
    version: int = 1,
) -> bytes:
    """The payload of one entry; `cancels`: (deliver_at_ms, timer number)."""
    return StoreCommand(
        version=version,
        timestamp_ms=at_ms,
        batches=batches,
        cursor_moves=list(moves),
        trims=list(trims),
        cancels=[CancelTimer(deliver_at_ms=due_ms, timer_number=number) for due_ms, number in cancels],
        fire=fire,
    ).SerializeToString()


def applied(machine: StoreQueues, *batches: ItemBatch, at_ms: int = NOW_MS, moves: Iterable[CursorMove] = ()) -> Any:
    """Apply one entry with these batches; its outcomes."""
    return machine.apply(machine.applied + 1, VALUE, command(*batches, at_ms=at_ms, moves=moves))


def trimmed(machine: StoreQueues, queue_id: int, first_cursor: int) -> None:
    """Apply one entry that trims a queue."""
    trim = QueueTrim(queue_id=queue_id, first_cursor=first_cursor)
    machine.apply(machine.applied + 1, VALUE, command(trims=[trim], version=2))


def topic(**settings: Any) -> Topic:
    """Pub 1: queues 0..7 then, after 60 s, 8..9, groups 1 and 2. Pub 2: queues 20..21, group 3, on store 1 too."""
    return Topic(
        topic_id=1000,
        topic_name="test",
        settings=TopicSettings(**settings),
        queue_infos=(
            QueueInfo(queue_info_id=1, ranges=((0, 7),)),
            QueueInfo(queue_info_id=2, ranges=((8, 9),), delay=60.0, count=-1),
            QueueInfo(queue_info_id=3, ranges=((20, 21),)),
        ),
        pubs=(
            Pub(pub_id=1, queue_info_ids=(1, 2), consumer_group_ids=(1, 2)),
            Pub(pub_id=2, queue_info_ids=(3,), consumer_group_ids=(3,)),
            Pub(pub_id=3, queue_info_ids=(3,), consumer_group_ids=(3,)),
        ),
        consumer_groups=tuple(ConsumerGroup(consumer_group_id=group) for group in (1, 2, 3)),
        stores=(
            Store(
                store_id=1,
                pub_ids=(1, 2),
                nodes=tuple(NodeAddress(node, "127.0.0.1", 5100 + node, 5200 + node) for node in range(3)),
            ),
        ),
    )


def store_node(limits: StoreLimits | None = None, paxos_groups: int = 1, **settings: Any) -> StoreNode:
    """Node 0 of store 1."""
    of_topic = topic(**settings)
    store = of_topic.stores[0]
    store = Store(store_id=1, pub_ids=store.pub_ids, nodes=store.nodes, paxos_groups=paxos_groups)
    return StoreNode(
        cluster=Cluster(topics=(of_topic,)),
        topic=of_topic,
        store=store,
        node=store.nodes[0],
        data_dir=Path("data/store.0"),
        limits=limits or StoreLimits(),
    )


class StoreGroup(FakeGroup):
    """One whose entries are commands of queues, and which remembers them as a log would.

    Attributes:
        uncached: instances that are on disk only.
        damaged: instances that cannot be read as they are.
        cold_reads: reads from disk that wait for `finish_read`.
    """

    state_machine: StoreQueues

    def __init__(self, group_id: int = 0, machine: StoreQueues | None = None, *, auto: bool = True) -> None:
        super().__init__(group_id, StoreQueues() if machine is None else machine, whose="store 1", auto=auto)
        self.lowest_version = COMMAND_VERSION
        self.uncached: set[int] = set()
        self.damaged: set[int] = set()
        self.cold_reads: list[tuple[list[int], Deferred[list[bytes]]]] = []

    def cached(self, instance: int) -> bytes | None:
        return None if instance in self.uncached else self.log[instance]

    def read(self, instances: Sequence[int]) -> Deferred[list[bytes]]:
        if not self.uncached.intersection(instances):
            return succeed([self.log[instance] for instance in instances])
        waiting: Deferred[list[bytes]] = Deferred()
        self.cold_reads.append((list(instances), waiting))
        return waiting

    def read_stored(self, instances: Sequence[int]) -> Deferred[list[bytes]]:
        damaged = self.damaged.intersection(instances)
        if damaged:
            return fail(EntryUnreadable(f"instances {sorted(damaged)} are damaged"))
        return succeed([self.log[instance] for instance in instances])

    def finish_read(self) -> None:
        """The disk answers the oldest read."""
        instances, waiting = self.cold_reads.pop(0)
        waiting.callback([self.log[instance] for instance in instances])


class Wall:
    """A wall clock that goes with a monotonic one, until somebody sets it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ahead_s = NOW_MS / 1000

    def __call__(self) -> float:
        return self._clock.seconds() + self.ahead_s


def stored(outcomes: list[Outcome]) -> list[int]:
    """The cursors of an entry whose batches were all stored."""
    assert all(isinstance(outcome, int) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, int)]


class StoreUnderTest:
    """One node's store service on fake groups and virtual time.

    Attributes:
        disk_ok: what `accepting` says.

    Args:
        ledger: whether its ledgers are open from the start; else an entry opens them after a while.
    """

    def __init__(
        self,
        limits: StoreLimits | None = None,
        *,
        auto: bool = True,
        paxos_groups: int = 1,
        ledger: bool = True,
        **settings: Any,
    ) -> None:
        self.clock = Clock()
        self.wall = Wall(self.clock)
        self.disk_ok = True
        self.groups = {number: StoreGroup(number, auto=auto) for number in range(paxos_groups)}
        self.group = self.groups[0]
        self.context: Any = Context()
        self.node = store_node(limits, paxos_groups, **settings)
        for group in self.groups.values() if ledger else ():
            group.state_machine.ledger.open(ledger_bounds(self.node.topic.settings), NOW_MS)
            group.state_machine.ledger.whole = True
        self.service = StoreService(self.node, self.groups, self.clock, accepting=lambda: self.disk_ok, wall=self.wall)

    def first_program(self, version: int) -> None:
        """All nodes run a program that knows commands up to this version, and nothing else was ever applied."""
        for group in self.groups.values():
            group.lowest_version = version
            group.state_machine.version = 1
            group.state_machine.ledger = Ledger()

    def add_request(self, *batches: ItemBatch, topic_id: int = 1000, store_id: int = 1) -> AddRequest:
        return AddRequest(topic_id=topic_id, store_id=store_id, batches=batches)

    def add(self, *batches: ItemBatch) -> Call:
        return Call(lambda: self.service.add(self.add_request(*batches), NO_CONTEXT))

    def added(self, *batches: ItemBatch) -> list[int]:
        """Add, and let it be chosen: the first cursor of each batch."""
        call = self.add(*batches)
        self.clock.advance(0)
        assert all(result.status == Status.OK for result in call.answer.results), call.answer
        return [result.first_cursor for result in call.answer.results]

    def get(self, queue_id: int = 1, group_id: int = 1, *, limit: int = 100, by: Any = None, **fields: Any) -> Call:
        request = GetRequest(
            topic_id=1000, store_id=1, queue_id=queue_id, consumer_group_id=group_id, limit=limit, **fields
        )
        return Call(lambda: self.service.get(request, self.context if by is None else by))


class Context:
    """Of calls that come by one connection."""

    def __init__(self) -> None:
        self.connection = self
