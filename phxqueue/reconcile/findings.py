"""What the books of one Paxos group say is wrong, by pub and consumer group. Pure.

What is missing shows as soon as it is reported, for reports follow through the same log what they report. So does what
is stored although its producer vouches that it was not confirmed. What is not reported and not vouched for counts when
its minute is settled: reports about it have had their time. What is older than the rows kept apart is not told again.
An account that a store has under one mask and its producer under another balances for the groups that are in both, and
for those only. What was given up, because there were too many accounts, is not checked: a row is told of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, field

from phxqueue.reconcile.columns import ALTERED, INVENTED, LOST, MASK64, UNCONFIRMED, UNREPORTED, UNSTORED
from phxqueue.reconcile.given_up import GivenUp
from phxqueue.reconcile.kinds import groups_of
from phxqueue.reconcile.ledger import EARLIER, Ledger

#: Producers and stretches named in one finding.
MOST_NAMED = 10
#: A producer that reports so many minutes after another minute has said of that one what it has to say.
_LATER = 2

_TOLD = (UNSTORED, UNCONFIRMED, LOST, INVENTED, ALTERED, UNREPORTED)

Whose = tuple[int, int, int, int]
"""(producer id, minute, pub id, kind)"""


@dataclass(slots=True)
class Finding:
    """Items of one pub and consumer group.

    Attributes:
        unstored: confirmed to producers and not stored.
        unconfirmed: stored, and their producers vouch that they were not confirmed.
        lost, invented, altered: what acknowledgements have shown; see the package.
        unreported: stored, and their producers have reported since then without a word about them.
        unchecked: stored, and too many others were not reported either: nobody kept what the producer has to say.
        first_minute, last_minute: of all that, in minutes since 1970.
        producers: whose, as far as it is known.
        places: (queue, first cursor, last cursor) of refused acknowledgements that nobody has made good.
    """

    unstored: int = 0
    unconfirmed: int = 0
    lost: int = 0
    invented: int = 0
    altered: int = 0
    unreported: int = 0
    unchecked: int = 0
    first_minute: int = 0
    last_minute: int = 0
    producers: list[int] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def difference(self) -> int:
        """0: all is well."""
        return self.unstored + self.unconfirmed + self.lost + self.invented + self.altered

    def note(self, minute: int, producer_id: int = 0) -> None:
        """Something was of this minute (and producer)."""
        self.first_minute = min(self.first_minute or minute, minute)
        self.last_minute = max(self.last_minute, minute)
        if producer_id and producer_id not in self.producers and len(self.producers) < MOST_NAMED:
            self.producers.append(producer_id)


def findings(ledger: Ledger, settled: int) -> dict[tuple[int, int], Finding]:
    """By (pub id, consumer group id), whatever is not as it should be.

    Args:
        settled: the last minute of which everything should be reported.
    """
    found: dict[tuple[int, int], Finding] = {}
    for minute, places in ledger.minutes.items():
        if minute == EARLIER:
            continue
        for place, row in places.items():
            if any(row[column] for column in _TOLD):
                one = found.setdefault(place, Finding())
                one.unstored += row[UNSTORED]
                one.unconfirmed += row[UNCONFIRMED]
                one.lost += row[LOST]
                one.invented += row[INVENTED]
                one.altered += row[ALTERED]
                one.unchecked += row[UNREPORTED]
                one.note(minute)
    _add_accounts(found, ledger, settled)
    for (producer_id, minute, pub_id, mask, _), count in ledger.accounts.unconfirmed.items():
        for group in groups_of(mask):
            one = found.setdefault((pub_id, group), Finding())
            one.unconfirmed += count
            one.note(minute, producer_id)
    for dispute in ledger.disputes.known:
        if dispute.is_open:
            one = found.setdefault((dispute.pub_id, dispute.consumer_group_id), Finding())
            column, items = dispute.counted_in
            one.lost += items if column == LOST else 0
            one.invented += items if column == INVENTED else 0
            one.altered += items if column == ALTERED else 0
            one.note(dispute.minute)
            if len(one.places) < MOST_NAMED:
                one.places.append((dispute.queue_id, dispute.start, dispute.stop - 1))
    return found


def _add_accounts(found: dict[tuple[int, int], Finding], ledger: Ledger, settled: int) -> None:
    whose, given_up = _doubtful(ledger, settled), GivenUp(ledger)
    for (producer_id, minute, pub_id, group), (count, digest_sum) in _by_group(ledger, whose):
        if count > 0 and not _due(ledger, producer_id, minute, settled):
            continue
        missing = given_up.missing((minute, pub_id, group), -count) if count < 0 else 0
        altered = given_up.altered((minute, pub_id, group)) if not count and digest_sum & MASK64 else 0
        if count > 0 or missing or altered:
            one = found.setdefault((pub_id, group), Finding())
            one.note(minute, producer_id)
            one.unreported += max(count, 0)
            one.unstored += missing
            one.altered += altered


def _due(ledger: Ledger, producer_id: int, minute: int, settled: int) -> bool:
    """Whether a producer should have reported what it stored in a minute; one that is gone will not."""
    return minute <= settled and ledger.reports.get(producer_id, (0, 0))[1] >= minute + _LATER


def _doubtful(ledger: Ledger, settled: int) -> set[Whose]:
    """Whose accounts may show something. The others, nearly all, are waited for, or their producers are gone."""
    return {
        (producer_id, minute, pub_id, kind)
        for (producer_id, minute, pub_id, _, kind), (count, _) in ledger.accounts.open.items()
        if count <= 0 or _due(ledger, producer_id, minute, settled)
    }


def _by_group(ledger: Ledger, whose: Set[Whose]) -> Iterator[tuple[tuple[int, int, int, int], tuple[int, int]]]:
    """These accounts by (producer, minute, pub, consumer group), of all masks together; once for each kind."""
    if not whose:
        return
    sums: dict[tuple[int, int, int, int, int], tuple[int, int]] = {}
    for (producer_id, minute, pub_id, mask, kind), (count, digest_sum) in ledger.accounts.open.items():
        if (producer_id, minute, pub_id, kind) not in whose:
            continue
        for group in groups_of(mask):
            key = producer_id, minute, pub_id, kind, group
            before = sums.get(key, (0, 0))
            sums[key] = before[0] + count, before[1] + digest_sum
    for (producer_id, minute, pub_id, _, group), total in sums.items():
        yield (producer_id, minute, pub_id, group), total


def open_by_group(ledger: Ledger) -> Iterator[tuple[tuple[int, int, int], tuple[int, int]]]:
    """What is open, as (count, digest sum) by (minute, pub, consumer group).

    What is only waited for comes summed up over producers and kinds: there may be tens of thousands of such accounts.
    Those with something below zero or altered come one by one, for one must not make up for another.
    """
    accounts = ledger.accounts.open
    odd = {(key[0], key[1], key[2], key[4]) for key, (count, _) in accounts.items() if count <= 0}
    waiting: dict[tuple[int, int, int], tuple[int, int]] = {}
    for (producer_id, minute, pub_id, mask, kind), (count, digest_sum) in accounts.items():
        if odd and (producer_id, minute, pub_id, kind) in odd:
            continue
        before = waiting.get((minute, pub_id, mask), (0, 0))
        waiting[minute, pub_id, mask] = before[0] + count, before[1] + digest_sum
    for (minute, pub_id, mask), total in waiting.items():
        for group in groups_of(mask):
            yield (minute, pub_id, group), total
    for (_, minute, pub_id, group), total in _by_group(ledger, odd):
        yield (minute, pub_id, group), total


def unreported_in_all(ledger: Ledger, settled: int) -> dict[tuple[int, int], int]:
    """Stored items that no producer has reported, dead producers' too: by (pub id, consumer group id)."""
    found: dict[tuple[int, int], int] = {}
    for minute, places in ledger.minutes.items():
        if EARLIER < minute <= settled:
            for place, row in places.items():
                if row[UNREPORTED]:
                    found[place] = found.get(place, 0) + row[UNREPORTED]
    for (minute, pub_id, group), (count, _) in open_by_group(ledger):
        if count > 0 and minute <= settled:
            found[pub_id, group] = found.get((pub_id, group), 0) + count
    return found
