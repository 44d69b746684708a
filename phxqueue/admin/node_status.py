"""What the nodes of a topic say about themselves, gathered into one picture. Pure but for `ask...`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from phxqueue.admin.gather import gather
from phxqueue.config import NodeAddress, Store, Topic
from phxqueue.net.address import Address
from phxqueue.net.pool import ConnectionPool
from phxqueue.net.status import RpcError
from phxqueue.proto.methods import NODE_STATUS
from phxqueue.proto.status_pb2 import GroupStatus, NodeStatusRequest, NodeStatusResponse

ANSWER_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node's answer, or why there is none."""

    store: Store
    node: NodeAddress
    answer: NodeStatusResponse | None
    reason: str = ""

    @property
    def up(self) -> bool:
        return self.answer is not None

    def group(self, group_id: int) -> GroupStatus | None:
        """What the node says about one of its Paxos groups."""
        for group in self.answer.groups if self.answer is not None else ():
            if group.group_id == group_id:
                return group
        return None


@dataclass(frozen=True, slots=True)
class Backlog:
    """One queue as one consumer group sees it. Cursors as in the queue: `end` is one past the last item.

    `oldest_s`: age of the oldest item that the group has not acknowledged; None: there is none.
    """

    store_id: int
    queue_id: int
    consumer_group_id: int
    first: int
    end: int
    acked: int
    delivered: int
    oldest_s: float | None = None

    @property
    def items(self) -> int:
        """Items that this group has not acknowledged yet."""
        return self.end - max(self.acked, self.first)


async def ask(
    pool: ConnectionPool, topic: Topic, store: Store, node: NodeAddress, timeout_s: float, *, state_hash: bool = False
) -> NodeReport:
    """Ask one node, also for the hash of its replicated state; a node that does not answer is a report too."""
    try:
        connection = await pool.connection(Address(node.ip, node.port))
        request = NodeStatusRequest(topic_id=topic.topic_id, state_hash=state_hash)
        answer = await connection.call(NODE_STATUS, request, timeout_s)
    except RpcError as error:
        return NodeReport(store, node, None, error.message or str(error))
    return NodeReport(store, node, answer)


async def ask_all(
    pool: ConnectionPool, topic: Topic, timeout_s: float = ANSWER_TIMEOUT_S, *, state_hash: bool = False
) -> list[NodeReport]:
    """Ask every node of every store of a topic at the same time."""
    return await gather(
        ask(pool, topic, store, node, timeout_s, state_hash=state_hash)
        for store in topic.stores
        for node in store.nodes
    )


async def ask_whether_up(
    pool: ConnectionPool, topic: Topic, timeout_s: float = ANSWER_TIMEOUT_S, *, tries: int = 4
) -> list[NodeReport]:
    """The same as `ask_all`, for what must not be done beside a node that runs: again while some do not answer.

    A node that runs may be kept from answering for seconds by its machine; one that is stopped refuses the connection
    at once.
    """
    reports = await ask_all(pool, topic, timeout_s)
    for _ in range(tries - 1):
        if all(report.up for report in reports):
            break
        again = await ask_all(pool, topic, timeout_s)
        reports = [later if later.up else report for report, later in zip(reports, again, strict=True)]
    return reports


def master_of(reports: Sequence[NodeReport], store_id: int, group_id: int) -> NodeReport | None:
    """Return the node that says it is master of a group; of two (one has not noticed yet) the newer one."""
    claims = [
        (group.ballot, position)
        for position, report in enumerate(reports)
        if report.store.store_id == store_id and (group := report.group(group_id)) is not None and group.is_master
    ]
    return reports[max(claims)[1]] if claims else None


def groups_of(topic: Topic) -> Iterator[tuple[Store, int]]:
    """Every Paxos group of every store."""
    for store in topic.stores:
        for group_id in range(store.paxos_groups):
            yield store, group_id


def without_master(topic: Topic, reports: Sequence[NodeReport]) -> list[tuple[Store, int]]:
    """Return the groups that nobody says to be master of: their queues stand still."""
    return [(store, group) for store, group in groups_of(topic) if master_of(reports, store.store_id, group) is None]


def untold(topic: Topic, reports: Sequence[NodeReport]) -> list[tuple[Store, int]]:
    """Return the groups that have a master which has told nothing of their queues: its lease had run out just then."""
    found = []
    for store, group_id in groups_of(topic):
        masters = [
            (report.answer, group)
            for report in reports
            if report.store.store_id == store.store_id
            and report.answer is not None
            and (group := report.group(group_id)) is not None
            and group.is_master
        ]
        # A node of an earlier version does not say which groups it tells of, but how long its lease is.
        told = any(group_id in answer.told_groups or group.lease_remaining_s for answer, group in masters)
        if masters and not told:
            found.append((store, group_id))
    return found


async def ask_until_told(
    reactor: IReactorTime, pool: ConnectionPool, topic: Topic, timeout_s: float, *, tries: int = 5, pause_s: float = 0.2
) -> list[NodeReport]:
    """The same as `ask_all`; again a few times, while a master says nothing of its queues."""
    while True:
        reports, tries = await ask_all(pool, topic, timeout_s), tries - 1
        if not tries or not untold(topic, reports):
            return reports
        await deferLater(reactor, pause_s)


def backlogs(reports: Sequence[NodeReport]) -> list[Backlog]:
    """Return every queue of every group as its master sees it, by store, queue and consumer group."""
    found: dict[tuple[int, int, int], Backlog] = {}
    for report in reports:
        if report.answer is None:
            continue
        for queue in report.answer.queues:
            for group in queue.groups:
                row = Backlog(
                    report.store.store_id,
                    queue.queue_id,
                    group.consumer_group_id,
                    queue.first_cursor,
                    queue.end_cursor,
                    group.acked,
                    group.delivered,
                    group.oldest_age_s if group.HasField("oldest_age_s") else None,
                )
                key = (row.store_id, row.queue_id, row.consumer_group_id)
                if key not in found or row.end > found[key].end:
                    found[key] = row
    return [found[key] for key in sorted(found)]
