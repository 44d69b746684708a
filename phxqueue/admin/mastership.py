"""Who is master of which Paxos group, and who should be: the picture of a topic's stores and lock groups.

Pure but for `ask_sets`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from phxqueue.admin.gather import gather
from phxqueue.admin.table import age, table
from phxqueue.config import LockGroup, NodeAddress, Store, Topic
from phxqueue.net.address import Address
from phxqueue.net.pool import ConnectionPool
from phxqueue.net.status import RpcError
from phxqueue.proto.methods import NODE_STATUS
from phxqueue.proto.status_pb2 import GroupStatus, NodeStatusRequest, NodeStatusResponse

ReplicaSet = Store | LockGroup


def set_id(replica_set: ReplicaSet) -> int:
    """The store_id or lock_id."""
    return replica_set.store_id if isinstance(replica_set, Store) else replica_set.lock_id


def set_name(replica_set: ReplicaSet) -> str:
    """For people: "store 1", "lock 1"."""
    return f"{'store' if isinstance(replica_set, Store) else 'lock'} {set_id(replica_set)}"


@dataclass(frozen=True, slots=True)
class SetReport:
    """What the nodes of one store or lock group say; a node that does not answer says nothing."""

    replica_set: ReplicaSet
    answers: dict[int, NodeStatusResponse]

    @property
    def runs(self) -> bool:
        """Whether any node answers. Nobody has to run the lock groups that are configured."""
        return bool(self.answers) or isinstance(self.replica_set, Store)


@dataclass(frozen=True, slots=True)
class Mastership:
    """One Paxos group: its master's own words, and what the configuration prefers.

    Attributes:
        node_id: the master; None: nobody says to be.
        order: nodes that may be master, the preferred one first.
        state: what the master says of the group.
    """

    replica_set: ReplicaSet
    group_id: int
    node_id: int | None
    order: tuple[int, ...]
    state: GroupStatus | None

    @property
    def name(self) -> str:
        return f"{set_name(self.replica_set)} group {self.group_id}"

    @property
    def preferred(self) -> int:
        return self.order[0]

    @property
    def fit(self) -> list[int]:
        """The nodes that could be master now, the present one included."""
        if self.state is None or self.node_id is None:
            return []
        return sorted({self.node_id, *(peer.node_id for peer in self.state.peers if peer.fit)})

    @property
    def better(self) -> int | None:
        """The best node that is preferred to the master and could take over; None: it is where it should be."""
        if self.node_id is None:
            return None
        before = self.order[: self.order.index(self.node_id)] if self.node_id in self.order else self.order
        return next((node_id for node_id in before if node_id in self.fit), None)

    def unfit_because(self, node_id: int) -> str:
        """Why a node could not take over."""
        peers = self.state.peers if self.state is not None else ()
        return next((peer.unfit_because for peer in peers if peer.node_id == node_id and not peer.fit), "")


async def ask_sets(pool: ConnectionPool, topic: Topic, timeout_s: float) -> list[SetReport]:
    """Ask every node of every store and lock group of a topic at the same time."""
    sets: list[ReplicaSet] = [*topic.stores, *topic.locks]
    return await gather(ask_set(pool, topic, one, timeout_s) for one in sets)


async def ask_set(pool: ConnectionPool, topic: Topic, replica_set: ReplicaSet, timeout_s: float) -> SetReport:
    """Ask every node of one store or lock group at the same time."""
    answers = await gather(_ask(pool, topic, node, timeout_s) for node in replica_set.nodes)
    nodes = [node.node_id for node in replica_set.nodes]
    return SetReport(
        replica_set, {node_id: answer for node_id, answer in zip(nodes, answers, strict=True) if answer is not None}
    )


async def _ask(pool: ConnectionPool, topic: Topic, node: NodeAddress, timeout_s: float) -> NodeStatusResponse | None:
    try:
        connection = await pool.connection(Address(node.ip, node.port))
        return await connection.call(NODE_STATUS, NodeStatusRequest(topic_id=topic.topic_id), timeout_s)
    except RpcError:
        return None


def masterships(report: SetReport) -> Iterator[Mastership]:
    """Every Paxos group of a set."""
    replica_set = report.replica_set
    for group_id in range(replica_set.paxos_groups):
        claims = {
            state.ballot: (node_id, state)
            for node_id, answer in report.answers.items()
            for state in answer.groups
            if state.group_id == group_id and state.is_master
        }
        # Of two (one has not noticed yet) the newer one.
        node_id, state = claims[max(claims)] if claims else (None, None)
        yield Mastership(replica_set, group_id, node_id, replica_set.election_order(group_id), state)


def as_text(reports: Sequence[SetReport]) -> list[str]:
    """The picture as a table, and what is to be said about it."""
    rows: list[tuple[object, ...]] = []
    remarks: list[str] = []
    for report in reports:
        if not report.runs:
            remarks.append(f"{set_name(report.replica_set)} is not running")
            continue
        for one in masterships(report):
            rows.append(_row(one))
            remarks += _remarks(one)
    header = ("PAXOS GROUP", "MASTER", "PREFERRED", "REGION", "MASTER FOR", "LEASE LEFT", "COULD LEAD")
    return [*table(header, rows, left=4), *(f"  {remark}" for remark in remarks)]


def _row(one: Mastership) -> tuple[object, ...]:
    if one.node_id is None or one.state is None:
        return (one.name, "none", one.preferred, "", "", "", "")
    return (
        one.name,
        f"{one.node_id} (held)" if one.state.held else one.node_id,
        one.preferred,
        _region(one.replica_set, one.node_id) or "-",
        age(one.state.master_for_s),
        f"{one.state.lease_remaining_s:.2f} s",
        " ".join(map(str, one.fit)),
    )


def _region(replica_set: ReplicaSet, node_id: int) -> str:
    return next((node.region for node in replica_set.nodes if node.node_id == node_id), "")


def _remarks(one: Mastership) -> list[str]:
    if one.node_id is None or one.state is None:
        return [f"{one.name} has no master: `phxqueue status` says who is down"]
    if one.node_id == one.preferred:
        return []
    if one.state.held:
        return [f"{one.name} was moved to node {one.node_id} and stays there until `phxqueue masters balance`"]
    if one.better is not None:
        return [f"{one.name} is going back to node {one.better} when that has been well for a while"]
    why = one.unfit_because(one.preferred)
    return [f"{one.name}: {why}"] if why else []


def as_document(reports: Sequence[SetReport]) -> list[dict[str, Any]]:
    """The picture as plain values, ready for JSON: one per group."""
    return [
        {
            "set": set_name(report.replica_set),
            "group_id": one.group_id,
            "master_node_id": one.node_id,
            "region": "" if one.node_id is None else _region(one.replica_set, one.node_id),
            "order": list(one.order),
            "could_lead": one.fit,
            "held": one.state is not None and one.state.held,
            "master_for_s": None if one.state is None else one.state.master_for_s,
            "lease_remaining_s": None if one.state is None else one.state.lease_remaining_s,
        }
        for report in reports
        if report.runs
        for one in masterships(report)
    ]
