"""The ledgers of a topic as text, and as plain values. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from phxqueue.admin.table import table
from phxqueue.proto.ledger_pb2 import LedgerAccount, LedgerDispute
from phxqueue.reconcile.kinds import Kind, groups_of
from phxqueue.reconcile.rows import LedgerRow, Picture

#: Columns that are always shown, and those that are when they are not all zero: attribute and heading, in their order.
_ALWAYS = ("produced_in_all", "stored", "delivered", "finished", "outstanding", "unreported")
_COLUMNS = (
    ("produced_in_all", "PRODUCED"),
    ("duplicates", "DUPLICATES"),
    ("stored", "STORED"),
    ("retried", "RETRIED"),
    ("requeued", "REQUEUED"),
    ("replayed", "REPLAYED"),
    ("dead", "DEAD"),
    ("expired", "EXPIRED"),
    ("delayed", "DELAYED"),
    ("cancelled", "CANCELLED"),
    ("delivered", "DELIVERED"),
    ("finished", "FINISHED"),
    ("passed_on", "PASSED ON"),
    ("dropped", "DROPPED"),
    ("skipped", "SKIPPED"),
    ("unproven", "UNPROVEN"),
    ("outstanding", "OUTSTANDING"),
    ("unreported", "UNREPORTED"),
    ("unnumbered", "UNNUMBERED"),
    ("added", "ADDED"),
    ("prepared", "PREPARED"),
    ("committed", "COMMITTED"),
    ("rolled_back", "ROLLED BACK"),
    ("timed_out", "TIMED OUT"),
    ("undecided", "UNDECIDED"),
    ("adrift", "ADRIFT"),
    ("unstored", "UNSTORED"),
    ("unconfirmed", "UNCONFIRMED"),
    ("lost", "LOST"),
    ("invented", "INVENTED"),
    ("altered", "ALTERED"),
)


def as_text(picture: Picture, *, minutes: bool) -> list[str]:
    """The picture as a table, by pub and group (and minute), and below it where something is wrong."""
    rows = picture.sorted_rows() if minutes else picture.by_pub_and_group()
    if picture.missing and not rows:  # what there is nobody knows
        return [verdict(picture)]
    lines = _table(rows, minutes=minutes) if rows else ["nothing in the ledgers"]
    wrong = [row for row in picture.sorted_rows() if row.difference]
    if wrong and not minutes:
        lines += ["", "minutes with a difference:", *_table(wrong, minutes=True)]
    if picture.disputes:
        lines += ["", "acknowledgements that what is stored contradicts:"]
        lines += [f"  {_dispute(store_id, one)}" for store_id, _, one in picture.disputes]
    if picture.unstored:
        lines += ["", "confirmed to producers, and not stored:"]
        lines += [f"  {_account(store_id, group, one)}" for store_id, group, one in picture.unstored]
    if picture.unconfirmed:
        lines += ["", "stored, and not confirmed to their producers:"]
        lines += [f"  {_account(store_id, group, one)}" for store_id, group, one in picture.unconfirmed]
    return [*lines, "", verdict(picture)]


def verdict(picture: Picture) -> str:
    """One sentence."""
    if picture.difference:
        return f"the ledgers DO NOT BALANCE: a difference of {picture.difference} items"
    if picture.missing:
        return "cannot tell: " + "; ".join(picture.missing)
    return "the ledgers balance"


def _table(rows: Sequence[LedgerRow], *, minutes: bool) -> list[str]:
    shown = [
        (name, heading)
        for name, heading in _COLUMNS
        if name in _ALWAYS or any(getattr(row, name) for row in rows)
    ]  # fmt: skip
    header = [*(["MINUTE"] if minutes else []), "PUB", "GROUP", *(heading for _, heading in shown), "DIFFERENCE"]
    body = [
        [
            *([minute_text(row.minute)] if minutes else []),
            row.pub_id,
            row.consumer_group_id,
            *(getattr(row, name) for name, _ in shown),
            row.difference,
        ]
        for row in rows
    ]
    return table(header, body, left=int(minutes))


def minute_text(minute: int) -> str:
    """A minute in UTC; 0: everything older."""
    if not minute:
        return "earlier"
    return datetime.fromtimestamp(minute * 60, timezone.utc).strftime("%Y-%m-%d %H:%M")


def _dispute(store_id: int, one: LedgerDispute) -> str:
    if one.claimed_count < one.stored_count:
        what = f"{one.stored_count - one.claimed_count} lost"
    elif one.claimed_count > one.stored_count:
        what = f"{one.claimed_count - one.stored_count} invented"
    else:
        what = "altered"
    state = ("refused, settled" if one.settled else "refused, open") if one.refused else "accepted"
    return (
        f"store {store_id} queue {one.queue_id} group {one.consumer_group_id} cursors {one.start} to {one.stop - 1}: "
        f"{what}; stored {one.stored_count} items, digests {one.stored_digest:016x}; claimed {one.claimed_count}, "
        f"{one.claimed_digest:016x} ({state}, {one.times} times, pub {one.pub_id}, stored {minute_text(one.minute)})"
    )


def _account(store_id: int, group: int, one: LedgerAccount) -> str:
    count = f"{one.count} items" if one.count else "other items than were stored"
    kind, groups = Kind(one.kind).name.lower(), ", ".join(map(str, groups_of(one.consumer_group_ids)))
    places = ", ".join(f"queue {place.queue_id} cursors {place.start} to {place.stop - 1}" for place in one.places)
    return (
        f"store {store_id} Paxos group {group} producer {one.producer_id:x}: {count} ({kind}) of pub {one.pub_id} for "
        f"groups {groups}, {minute_text(one.minute)}; that minute is in {places or 'no queue any more'}"
    )


def as_document(picture: Picture) -> dict[str, Any]:
    """The picture as plain values, ready for JSON."""
    return {
        "difference": picture.difference,
        "complete": not picture.missing,
        "missing": picture.missing,
        "rows": [row.as_document() for row in picture.sorted_rows()],
        "totals": [row.as_document() for row in picture.by_pub_and_group()],
        "disputes": [
            {
                "store_id": store_id,
                "paxos_group": group,
                **{field.name: _plain(field.name, getattr(one, field.name)) for field in one.DESCRIPTOR.fields},
            }
            for store_id, group, one in picture.disputes
        ],
        "unstored": [_account_document(*one) for one in picture.unstored],
        "unconfirmed": [_account_document(*one) for one in picture.unconfirmed],
    }


def _account_document(store_id: int, group: int, one: LedgerAccount) -> dict[str, Any]:
    return {
        "store_id": store_id,
        "paxos_group": group,
        "producer_id": f"{one.producer_id:x}",
        "minute": one.minute,
        "pub_id": one.pub_id,
        "consumer_group_ids": groups_of(one.consumer_group_ids),
        "kind": Kind(one.kind).name.lower(),
        "count": one.count,
        "places": [{"queue_id": place.queue_id, "start": place.start, "stop": place.stop} for place in one.places],
    }


def _plain(name: str, value: Any) -> Any:
    return f"{value:016x}" if name.endswith("digest") else value
