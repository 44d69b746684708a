"""What an entry has stored, as the ledger counts it. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Tally(NamedTuple):
    """Batches of one entry that are alike."""

    producer_id: int  # 0: they have no sequence numbers, so nobody will report them
    queue_id: int
    pub_id: int
    mask: int
    origin: int
    added: int = 0  # groups that were created at run time, and that the batch does not name
