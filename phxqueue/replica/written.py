"""The core's records as writes to the journal."""

from __future__ import annotations

from collections.abc import Iterable

from phxqueue.journal.records import PutBlob, PutChosen, PutEntry, PutPromise, Write
from phxqueue.paxos.effects import AcceptRecord, MembershipRecord, PromiseRecord, Record
from phxqueue.replica.checkpoint_table import GROUP_KEY, MEMBERSHIP


def writes_of(group_id: int, records: Iterable[Record]) -> list[Write]:
    """Return what is written for one group, in order."""
    writes: list[Write] = []
    for record in records:
        if isinstance(record, AcceptRecord):
            entry = record.entry
            writes.append(
                PutEntry(group_id, record.instance, entry.ballot, entry.checksum, int(entry.kind), entry.payload)
            )
        elif isinstance(record, PromiseRecord):
            writes.append(PutPromise(group_id, record.ballot))
        elif isinstance(record, MembershipRecord):
            writes.append(PutBlob(MEMBERSHIP, GROUP_KEY.pack(group_id), record.state))
        else:
            writes.append(PutChosen(group_id, record.instance))
    return writes
