"""The columns of a row of the books: 64-bit numbers by name. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from phxqueue.reconcile.kinds import KINDS

MASK64 = (1 << 64) - 1

#: In their order in a row. Those of each kind stand in the order of Kind.
COLUMNS = (
    # Items stored, by kind, and the sums of their digests mod 2^64.
    "stored", "retried", "dead", "expired", "requeued",
    "stored_digest", "retried_digest", "dead_digest", "expired_digest", "requeued_digest",
    # The same as producers were confirmed it.
    "produced", "produced_retried", "produced_dead", "produced_expired", "produced_requeued",
    "produced_digest", "produced_retried_digest", "produced_dead_digest", "produced_expired_digest",
    "produced_requeued_digest",
    # Of the produced ones: confirmed only when they were sent again, and found to be stored already.
    "duplicates",
    # Stored ones that wait for their time; that were taken back before it.
    "delayed", "cancelled",
    # Copies done with; of those: passed on, by what became of them, and expired ones that were dropped.
    "acknowledged", "passed_retried", "passed_dead", "passed_expired", "dropped",
    # Copies done with by acknowledgements that claim nothing; copies that a replay made outstanding again; that one
    # passed over.
    "unproven", "replayed", "skipped",
    # What claims contradict.
    "lost", "invented", "altered",
    # What producers have not reported, and what was confirmed to them and is not stored: of closed accounts.
    "unreported", "unstored",
    # Stored ones of clients that do not number their batches: nobody will report them.
    "unnumbered",
    # Stored ones for groups that were created at run time: no producer names those.
    "added",
    # Half messages, by the minute they were prepared in; of those: committed (and stored then), rolled back by their
    # producers, rolled back because nobody decided in time.
    "prepared", "committed", "rolled_back", "timed_out",
    # Stored ones whose producers vouch that they were not confirmed: of closed accounts.
    "unconfirmed",
)  # fmt: skip
PLACES = {name: place for place, name in enumerate(COLUMNS)}
DIGESTS = frozenset(name for name in COLUMNS if name.endswith("digest"))

#: First columns of what is stored, its digests, what is produced, its digests: `Kind` is the offset.
TAKEN, TAKEN_DIGEST, PRODUCED, PRODUCED_DIGEST = 0, KINDS, 2 * KINDS, 3 * KINDS
DUPLICATES = PLACES["duplicates"]
DELAYED, CANCELLED = PLACES["delayed"], PLACES["cancelled"]
ACKNOWLEDGED, DROPPED, UNPROVEN = PLACES["acknowledged"], PLACES["dropped"], PLACES["unproven"]
REPLAYED, SKIPPED = PLACES["replayed"], PLACES["skipped"]
#: First of the columns of what acknowledged items became: retried, dead, expired.
PASSED = PLACES["passed_retried"]
PASSED_KINDS = 3
LOST, INVENTED, ALTERED = PLACES["lost"], PLACES["invented"], PLACES["altered"]
UNREPORTED, UNSTORED, UNNUMBERED = PLACES["unreported"], PLACES["unstored"], PLACES["unnumbered"]
ADDED = PLACES["added"]
PREPARED, COMMITTED = PLACES["prepared"], PLACES["committed"]
ROLLED_BACK, TIMED_OUT = PLACES["rolled_back"], PLACES["timed_out"]
UNCONFIRMED = PLACES["unconfirmed"]


def new_row() -> array[int]:
    """A row of zeros."""
    return array("Q", bytes(8 * len(COLUMNS)))


def add_row(total: array[int], row: array[int]) -> None:
    """Add one row to another."""
    for place, value in enumerate(row):
        if value:
            total[place] = (total[place] + value) & MASK64


def pack(row: Iterable[int]) -> list[int]:
    """A row without its zeros: first which columns there are, as bits."""
    bits, values = 0, []
    for place, value in enumerate(row):
        if value:
            bits |= 1 << place
            values.append(value)
    return [bits, *values]


def unpack(numbers: Iterator[int]) -> array[int]:
    """Take a packed row off the front."""
    bits, row = next(numbers), new_row()
    for place in range(len(COLUMNS)):
        if bits >> place & 1:
            row[place] = next(numbers)
    return row
