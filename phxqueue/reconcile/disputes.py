"""Acknowledgements that what is stored contradicts: where, and by how much. Pure.

An *accepted* one (`reconcile = alarm`) counts once, however often it is told: a group acknowledges nothing of a queue
twice, unless a replay lies between (which is another generation of the group). A *refused* one (`reconcile = strict`)
moves nothing: it counts until the group has come past it with an acknowledgement that is right, and stays in the list
as settled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from phxqueue.reconcile.columns import ALTERED, INVENTED, LOST

#: Disputes remembered: a constant of the command version.
MOST_DISPUTES = 256


@dataclass(frozen=True, slots=True)
class Dispute:
    """What a consumer claimed to have finished of [start, stop) of a queue, and what is stored there.

    Attributes:
        minute, pub_id: of the first item of its group there: the row it is counted in.
        found_ms: when, Unix milliseconds.
        generation: of the group in the queue.
        times: how often it was claimed (refused ones come again).
        refused: the acknowledgement was refused.
        settled: it was refused, and acknowledged rightly later.
    """

    queue_id: int
    consumer_group_id: int
    start: int
    stop: int
    stored_count: int
    stored_digest: int
    claimed_count: int
    claimed_digest: int
    minute: int
    pub_id: int
    found_ms: int
    generation: int = 0
    times: int = 1
    refused: bool = False
    settled: bool = False

    @property
    def counted_in(self) -> tuple[int, int]:
        """(column, items): as what it counts, and how much."""
        if self.claimed_count < self.stored_count:
            return LOST, self.stored_count - self.claimed_count
        if self.claimed_count > self.stored_count:
            return INVENTED, self.claimed_count - self.stored_count
        return ALTERED, 1

    @property
    def is_open(self) -> bool:
        """Whether it is refused and not settled: nothing of it is in the sums."""
        return self.refused and not self.settled


_FIELDS = len(fields(Dispute))
_NUMBERS = tuple(field.name for field in fields(Dispute))[:-2]


class Disputes:
    """The last ones of one Paxos group, the oldest first."""

    def __init__(self) -> None:
        self.known: list[Dispute] = []

    def add(self, dispute: Dispute) -> bool:
        """Another one, or one that is known. Of refused ones the newer takes the place of the open ones it overlaps.

        Returns:
            Whether it is another one.
        """
        same = [one for one in self.known if _same(one, dispute)]
        if not same:
            self.known.append(dispute)
            del self.known[:-MOST_DISPUTES]
            return True
        again = replace(dispute if dispute.refused else same[0], times=sum(one.times for one in same) + 1)
        place = self.known.index(same[0])
        self.known[place] = again
        self.known = [one for one in self.known if one is again or one not in same]
        return False

    def settle(self, queue_id: int, consumer_group_id: int, acked: int) -> None:
        """A group has come this far."""
        for place, one in enumerate(self.known):
            here = (one.queue_id, one.consumer_group_id) == (queue_id, consumer_group_id)
            if here and one.is_open and one.stop <= acked:
                self.known[place] = replace(one, settled=True)

    @property
    def any_open(self) -> bool:
        """Whether a refused one waits to be settled."""
        return any(one.is_open for one in self.known)

    def dump(self) -> list[int]:
        """All of it, as numbers."""
        numbers = [len(self.known)]
        for one in self.known:
            numbers += (
                one.queue_id, one.consumer_group_id, one.start, one.stop, one.stored_count, one.stored_digest,
                one.claimed_count, one.claimed_digest, one.minute, one.pub_id, one.found_ms, one.generation, one.times,
                one.refused, one.settled,
            )  # fmt: skip
        return numbers

    def load(self, numbers: Iterator[int]) -> None:
        """Take what `dump` gave off the front, into an empty object."""
        for _ in range(next(numbers)):
            *values, refused, settled = (next(numbers) for _ in range(_FIELDS))
            one = dict(zip(_NUMBERS, values, strict=True))
            self.known.append(Dispute(**one, refused=bool(refused), settled=bool(settled)))


def _same(one: Dispute, other: Dispute) -> bool:
    """Whether the first, which is known, is about what the other is about."""
    return (
        one.queue_id == other.queue_id
        and one.consumer_group_id == other.consumer_group_id
        and one.generation == other.generation
        and one.refused == other.refused
        and not one.settled
        and one.start < other.stop
        and other.start < one.stop
    )
