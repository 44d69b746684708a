"""What is wrong with a store's or lock group's node, from what it tells an operator. Pure.

docs/operations.md has a row for each kind, with what to do.
"""

from __future__ import annotations

from collections.abc import Iterable

from phxqueue.config.settings import LockLimits
from phxqueue.console.alarms import Alarm
from phxqueue.console.conditions import Condition, Lately
from phxqueue.proto.status_pb2 import LockTableStatus, NodeStatusResponse

NO_MASTER, DISK_FULL, TABLE_FULL, WAITERS_FULL, LEASE_STORM = (
    "no-master", "disk-full", "lock-table-full", "lock-waiters-full", "lease-storm",
)  # fmt: skip
#: A bound counts as reached from this part of it on: what is refused then is refused without warning.
NEARLY = 0.9
#: An election takes a second or so; what lasts longer does not pass by itself.
NO_MASTER_S = 15.0
FULL_S = 10.0
#: Leases that ran out within STORM_WINDOW_S: so many, and so large a part of the locks there are.
STORM_WINDOW_S, STORM_LEAST, STORM_PART = 60.0, 20, 0.2


class ReplicaConditions:
    """Of one node.

    Args:
        limits: of a lock node; None: it is a store's.
    """

    def __init__(self, limits: LockLimits | None = None) -> None:
        self._limits = limits
        self._expired = Lately(STORM_WINDOW_S)

    def look(self, now: float, status: NodeStatusResponse) -> Iterable[Condition]:
        """What holds now."""
        what: tuple[str, str | int] = ("store", status.store_id) if status.store_id else ("lock", status.lock_id)
        for group in status.groups:
            if not group.HasField("master_node_id"):
                yield Condition(
                    Alarm(
                        kind=NO_MASTER,
                        subject=(what, ("paxos group", group.group_id)),
                        cause=f"node {status.node_id} knows no master: nothing of this group is served",
                        remedy="start the nodes that are down: a majority has to reach each other (`phxqueue masters "
                        "list`, `phxqueue status`)",
                    ),
                    NO_MASTER_S,
                )
        if status.groups and not status.accepting:
            yield Condition(
                Alarm(
                    kind=DISK_FULL,
                    subject=(what, ("node", status.node_id)),
                    cause=f"{status.disk_free_bytes} bytes of the disk are free, less than journal.min_free_bytes",
                    remedy="make room; until then this node takes in nothing new",
                ),
                FULL_S,
            )
        if self._limits is not None:
            yield from self._tables(now, what, status.lock_tables, self._limits)

    def _tables(
        self, now: float, what: tuple[str, str | int], tables: Iterable[LockTableStatus], limits: LockLimits
    ) -> Iterable[Condition]:
        tables = list(tables)
        expired = self._expired.risen(now, {str(table.group_id): table.expired for table in tables})
        for table in tables:
            place = (what, ("paxos group", table.group_id))
            keys = table.locks + table.strings
            if keys >= NEARLY * limits.table_keys or table.bytes >= NEARLY * limits.table_bytes:
                yield Condition(
                    Alarm(
                        kind=TABLE_FULL,
                        subject=place,
                        cause=f"the table has {keys} keys of {limits.table_keys} and {table.bytes} bytes of "
                        f"{limits.table_bytes}; new locks and strings are refused at either",
                        remedy="`phxqueue locks list --strings` shows who keeps them; raise limits.table_keys or "
                        "limits.table_bytes of all nodes, or add a lock group",
                        facts={"keys": keys, "bytes": table.bytes},
                    ),
                    FULL_S,
                )
            storm = expired[str(table.group_id)]
            if storm >= max(STORM_LEAST, STORM_PART * (table.locks + storm)):
                yield Condition(
                    Alarm(
                        kind=LEASE_STORM,
                        subject=place,
                        cause=f"{storm} leases have run out within {STORM_WINDOW_S:.0f} s; {table.locks} are left",
                        remedy="their holders died, hang, or cannot reach this group: look at their logs and at the "
                        "network between; leases shorter than a few seconds do not outlive a busy machine",
                        facts={"expired": storm},
                        warning=True,
                    ),
                    0.0,
                )
        waiters = sum(table.waiters for table in tables)
        if waiters >= NEARLY * limits.max_waiters:
            yield Condition(
                Alarm(
                    kind=WAITERS_FULL,
                    subject=(what,),
                    cause=f"{waiters} calls wait for locks; at limits.max_waiters ({limits.max_waiters}) more are "
                    "refused",
                    remedy="`phxqueue locks list` shows for which locks: their holders keep them for too long",
                    facts={"waiters": waiters},
                ),
                FULL_S,
            )
