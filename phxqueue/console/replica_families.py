"""The metrics of a store's or lock group's node, from what it tells an operator. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.metrics_core import Metric

from phxqueue.console.families import Families
from phxqueue.proto.status_pb2 import GroupStatus, LockTableStatus, NodeStatusResponse, QueueStatus


def replica_families(status: NodeStatusResponse, pubs: Mapping[int, tuple[int, ...]]) -> Iterable[Metric]:
    """What Prometheus is told.

    Args:
        status: the node's answer.
        pubs: by queue id, the pubs whose items may be in it.
    """
    owner: dict[str, object] = {"store": status.store_id} if status.store_id else {"lock": status.lock_id}
    out = Families(**owner, node=status.node_id)
    out.gauge("accepting", "1 while new items are taken; 0: the disk is nearly full.", status.accepting)
    out.gauge("disk_free_bytes", "Free bytes of the disk with the data directory.", status.disk_free_bytes)
    for group in status.groups:
        _group(out, group)
    for queue in status.queues:
        _queue(out, queue, _pub_label(pubs.get(queue.queue_id, ())))
    for table in status.lock_tables:
        _lock_table(out, table)
    _passed_on(out, status)
    _audits(out, status, pubs)
    for ledger in status.ledgers:
        row = {"paxos_group": ledger.group_id, "pub": ledger.pub_id, "group": ledger.consumer_group_id}
        out.gauge("ledger_difference_items", "What the ledger lacks; no row: all is well.", ledger.difference, **row)
        out.gauge("ledger_unreported_items", "Stored items that no producer reported.", ledger.unreported, **row)
    if status.HasField("journal"):
        _journal(out, status)
    return out.all()


def _group(out: Families, group: GroupStatus) -> None:
    place = {"group": group.group_id}
    out.gauge("group_master", "1 on the master of a Paxos group.", group.is_master, **place)
    out.gauge("group_has_master", "1 when this node knows a master.", group.HasField("master_node_id"), **place)
    out.gauge("group_chosen_instance", "Highest instance of the chosen prefix.", group.chosen, **place)
    out.gauge("group_applied_instance", "Instance that the state machine has come to.", group.applied, **place)
    out.gauge("group_first_instance", "Lowest instance that is still in the log.", group.first, **place)
    if not group.is_master:
        return
    out.gauge("group_lease_seconds", "What is left of the master's lease.", group.lease_remaining_s, **place)
    out.gauge("group_master_seconds", "Since this node became master.", group.master_for_s, **place)
    for peer in group.peers:
        whom = {**place, "peer": peer.node_id}
        out.gauge(
            "replica_lag_entries",
            "Entries that a replica is behind its master, as it reported last.",
            max(group.chosen - peer.chosen, 0),
            **whom,
        )
        out.gauge("replica_silence_seconds", "Since it was heard; -1: never.", peer.heard_ago_s, **whom)
        out.gauge("replica_fit", "1 when it could take the mastership over now.", peer.fit, **whom)


def _queue(out: Families, queue: QueueStatus, pub: str) -> None:
    place: dict[str, object] = {"queue": queue.queue_id, "pub": pub}
    out.count("queue_enqueued_items", "Items ever stored in a queue (on its master).", queue.end_cursor, **place)
    out.count("queue_trimmed_items", "Items that retention has let go.", queue.first_cursor, **place)
    out.gauge("queue_delayed_items", "Items kept aside until they are due.", queue.delayed, **place)
    out.gauge("queue_prepared_items", "Items of half messages that are not decided.", queue.prepared, **place)
    text = "Items of half messages that the store rolled back, because nobody decided in time."
    out.count("queue_half_expired_items", text, queue.half_expired, **place)
    for group in queue.groups:
        reader = {**place, "group": group.consumer_group_id}
        acked = max(group.acked, queue.first_cursor)
        out.count("queue_delivered_items", "Cursor up to which items were handed out.", group.delivered, **reader)
        out.count("queue_acked_items", "Cursor up to which everything is acknowledged.", acked, **reader)
        out.gauge("queue_lag_items", "Items not acknowledged yet.", max(queue.end_cursor - acked, 0), **reader)
        out.gauge(
            "queue_oldest_age_seconds",
            "Since the oldest item that is not acknowledged was stored; 0: there is none.",
            group.oldest_age_s,
            **reader,
        )


def _lock_table(out: Families, table: LockTableStatus) -> None:
    place = {"group": table.group_id}
    out.gauge("lock_held", "Locks held (on the master).", table.locks, **place)
    out.gauge("lock_strings", "Strings.", table.strings, **place)
    out.gauge("lock_table_bytes", "Bytes of keys, values and client ids.", table.bytes, **place)
    out.gauge("lock_waiters", "Calls that wait for locks.", table.waiters, **place)
    out.gauge("lock_watches", "Calls that wait for changes.", table.watches, **place)
    out.count("lock_expired", "Locks and strings whose lease has run out.", table.expired, **place)


def _passed_on(out: Families, status: NodeStatusResponse) -> None:
    name, meaning = "group_passed_on_items", "Items of a consumer group that were stored again, by what became of them."
    for one in status.passed_on:
        for what in ("retried", "dead", "expired", "requeued"):
            out.count(name, meaning, getattr(one, what), group=one.consumer_group_id, what=what)


def _audits(out: Families, status: NodeStatusResponse, pubs: Mapping[int, tuple[int, ...]]) -> None:
    """Added up over the queues of a pub: one row per pub and consumer group."""
    sums: dict[tuple[str, int, str], int] = {}
    for audit in status.audits:
        pub = _pub_label(tuple(audit.pub_ids) or pubs.get(audit.queue_id, ()))
        for result in ("agreed", "disputed", "refused", "unclaimed", "unchecked"):
            key = pub, audit.consumer_group_id, result
            sums[key] = sums.get(key, 0) + getattr(audit, result)
    for (pub, group, result), acks in sorted(sums.items()):
        out.count(
            "reconcile_audits",
            "Acknowledgements compared with what is stored, by result; refused ones are disputed ones, too.",
            acks,
            pub=pub,
            group=group,
            result=result,
        )


def _journal(out: Families, status: NodeStatusResponse) -> None:
    journal = status.journal
    out.histogram(
        "journal_commit_seconds",
        "Time of one commit of the journal, its fsync included.",
        list(journal.bounds_s),
        list(journal.counts),
        journal.seconds,
    )
    out.gauge("journal_longest_commit_seconds", "The longest so far.", journal.longest_seconds)
    out.count("journal_submissions", "What was committed; what shares a commit counts one by one.", journal.submissions)
    out.count("journal_bytes", "Bytes committed.", journal.bytes)
    out.gauge("journal_pending_bytes", "Bytes that wait to be committed.", journal.pending_bytes)


def _pub_label(pub_ids: tuple[int, ...]) -> str:
    """Several pubs that share a queue stand together: "1+2"."""
    return "+".join(map(str, sorted(pub_ids)))
