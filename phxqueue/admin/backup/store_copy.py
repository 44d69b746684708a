"""Copies a whole store or lock group: which node each Paxos group is taken from, and up to where it has to reach."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phxqueue.admin.backup.files import MANIFEST, GroupRecord, Manifest, read_document, write_document, write_manifest
from phxqueue.admin.backup.roles import as_store
from phxqueue.admin.backup.taking import Caller, GroupCopy, finished
from phxqueue.admin.errors import AdminError
from phxqueue.admin.node_status import NodeReport, ask, master_of
from phxqueue.config import LockGroup, NodeAddress, Store, Topic
from phxqueue.net.address import Address
from phxqueue.net.pool import ConnectionPool
from phxqueue.proto.backup_pb2 import BackupOpenResponse
from phxqueue.replica.pace import Pace

PARTIAL = "UNFINISHED.json"
"""Whose backup this directory is going to be; removed when it is complete."""
ANSWER_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a group is copied from. `confirmed`: see GroupRecord."""

    node: NodeAddress
    confirmed: int | None


def choose(of: Store | LockGroup, group_id: int, reports: Sequence[NodeReport], wanted: int | None) -> Choice:
    """Choose the node to copy a group from: a follower that is level with the master, to spare that; or the one wanted.

    Raises AdminError when nobody can vouch that the copy will be complete.
    """
    nodes = {report.node.node_id: report for report in reports}
    if wanted is not None and wanted not in nodes:
        raise AdminError(f"{of.title} has no node {wanted}; it has {', '.join(map(str, sorted(nodes)))}")
    master = master_of(reports, as_store(of).store_id, group_id)
    status = None if master is None else master.group(group_id)
    if master is None or status is None or status.lease_remaining_s <= 0:
        if wanted is None:
            raise AdminError(
                f"group {group_id} of {of.title} has no master that could say what has been acknowledged: "
                "see `phxqueue status`; --node copies what one node has, whatever that may lack"
            )
        return Choice(nodes[wanted].node, None)
    if wanted is not None:
        return Choice(nodes[wanted].node, status.applied)
    level = []
    for report in reports:
        group = report.group(group_id)
        if group is not None and group.applied >= status.applied and not group.incomplete:
            level.append((report is master, report.node.node_id, report.node))
    return Choice(min(level)[2] if level else master.node, status.applied)


def _facts(origin: BackupOpenResponse) -> dict[str, Any]:
    return {"cluster": origin.cluster, "version": origin.version, "lineage": origin.lineage}


class StoreCopy:
    """One backup of one store or lock group.

    Args:
        node_id: copy everything from this node; None: from whoever spares the cluster most.
        rate: bytes per second; 0: no limit.
        say: told a line at each step.
    """

    def __init__(
        self,
        root: Path,
        topic: Topic,
        of: Store | LockGroup,
        pool: ConnectionPool,
        clock: Any,
        *,
        node_id: int | None,
        rate: int,
        say: Callable[[str], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.bytes = 0
        self.groups_done = 0
        self._root = root
        self._topic = topic
        self._role = "store" if isinstance(of, Store) else "lock"
        self._of = of
        self._store = as_store(of)
        self._pool = pool
        self._clock = clock
        self._node_id = node_id
        self._pace = Pace(rate)
        self._say = say
        self._wall = wall

    async def run(self) -> Manifest:
        """Copy every group that is not here yet; returns what is written last."""
        began_at = self._begin()
        groups: list[GroupRecord] = []
        origin: BackupOpenResponse | None = None
        reports = [await self._ask(node) for node in self._store.nodes]
        for group_id in range(self._store.paxos_groups):
            record = finished(self._root, group_id)
            if record is not None:
                self._say(f"group {group_id}: is here already, as of instance {record.applied}")
            else:
                record, origin = await self._copy(group_id, reports)
                self._checked(origin)
                reports = [await self._ask(node) for node in self._store.nodes]
            groups.append(record)
            self.groups_done += 1
        partial = read_document(self._root / PARTIAL) or {}
        if origin is not None:
            partial = {**partial, **_facts(origin)}
        manifest = Manifest(
            cluster=partial["cluster"],
            role=self._role,
            set_id=self._store.store_id,
            paxos_groups=self._store.paxos_groups,
            version=partial["version"],
            lineage=partial["lineage"],
            began_at=began_at,
            ended_at=self._wall(),
            groups=tuple(groups),
        )
        write_manifest(self._root, manifest)
        (self._root / PARTIAL).unlink(missing_ok=True)
        return manifest

    def _begin(self) -> float:
        """Make the directory ours. Raises AdminError when it is somebody else's, or complete."""
        root = self._root
        root.mkdir(parents=True, exist_ok=True)
        if (root / MANIFEST).exists():
            raise AdminError(f"{root} holds a complete backup already: name a directory that is not there yet")
        ours: dict[str, Any] = {"set_id": self._store.store_id, "paxos_groups": self._store.paxos_groups}
        ours |= {"topic": self._topic.topic_id, "role": self._role}
        partial = read_document(root / PARTIAL)
        if partial is not None:
            other = {"role": "store", **{name: partial[name] for name in ours if name in partial}}
            if other != ours:
                raise AdminError(f"{root} holds the beginning of another backup ({other}, not {ours}): name another")
            self._say(f"{root} holds an unfinished backup: going on with it")
            return float(partial["began_at"])
        if any(root.iterdir()):
            raise AdminError(f"{root} is not empty: name a directory that is, or that is not there yet")
        began_at = self._wall()
        write_document(root / PARTIAL, {**ours, "began_at": began_at})
        return began_at

    def _checked(self, origin: BackupOpenResponse) -> None:
        """The first group tells whose backup this is; all others must agree."""
        partial = read_document(self._root / PARTIAL) or {}
        known = partial.get("cluster")
        if known is None:
            write_document(self._root / PARTIAL, {**partial, **_facts(origin)})
        elif known != origin.cluster or partial["lineage"] != origin.lineage:
            raise AdminError(
                f"node {origin.node_id} is of cluster {origin.cluster!r}, life {origin.lineage:016x} of "
                f"{self._of.title}; what is here already is of {known!r}, {partial['lineage']:016x}: begin a new backup"
            )

    async def _ask(self, node: NodeAddress) -> NodeReport:
        return await ask(self._pool, self._topic, self._store, node, ANSWER_TIMEOUT_S)

    async def _copy(self, group_id: int, reports: list[NodeReport]) -> tuple[GroupRecord, BackupOpenResponse]:
        choice = choose(self._of, group_id, reports, self._node_id)
        record, opened = await GroupCopy(
            self._root,
            self._store.store_id,
            group_id,
            choice.node.node_id,
            self._caller(choice.node),
            confirmed=choice.confirmed,
            pace=self._pace,
            clock=self._clock,
            wall=self._wall,
            told=self._told,
        ).run()
        self._say(
            f"group {group_id}: from node {record.node_id}, as of instance {record.applied}, "
            f"{record.entries} entries, {record.segments} segments"
        )
        return record, opened

    def _told(self, size: int) -> None:
        self.bytes += size

    def _caller(self, node: NodeAddress) -> Caller:
        pool, address = self._pool, Address(node.ip, node.port)

        def call(method: Any, request: Any, timeout: float) -> Any:
            return pool.connection(address).addCallback(lambda connection: connection.call(method, request, timeout))

        return call
