"""What each producer has still to report of what is stored from it. Pure.

An account is opened when something of a producer is stored and closed when its reports agree with it, in count and
digest sum. One below zero is a loss: a store confirmed what no store has. Reports follow what they report through the
same log, so an account is never below zero only because something is late. One above zero may only be late, until the
producer vouches for the sequences of its batches: then it knows what became of each, and nothing is to come. What is
stored only afterwards is none of what it was told of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

MASK64 = (1 << 64) - 1

Key = tuple[int, int, int, int, int]
"""(producer id, minute, pub id, mask, kind)"""

Stretch = tuple[int, int]
"""(lowest, highest sequence of the batches)"""

#: Open accounts at most: a constant of the command version. The same for what is known to be unconfirmed.
MOST_ACCOUNTS = 1 << 16
#: Entries of the books that are loaded in one step: milliseconds of work at most.
STEP_ENTRIES = 512


class Accounts:
    """The open accounts of one Paxos group.

    Args:
        closed: told of an account that is closed although it does not balance, as (key, items, digest sum): it is too
            old, or there are too many.
        wrote_off: told of what was `unconfirmed`, likewise, as (key, items).

    Attributes:
        open: items (signed) and digest sum mod 2^64.
        vouching: whether sequences are kept: from the opening of the books on; of books that were opened by an earlier
            program, since a producer has vouched for some.
        unconfirmed: items that are stored although their producers vouch that they were not confirmed.
        vouched_for: by producer, the sequences of its last word (above the first, up to the second), once that is kept:
            None as long as it is not, for an earlier program would not keep it.
    """

    def __init__(self, closed: Callable[[Key, int, int], None], wrote_off: Callable[[Key, int], None]) -> None:
        self._closed = closed
        self._wrote_off = wrote_off
        self.open: dict[Key, tuple[int, int]] = {}
        self.vouching = False
        self.unconfirmed: dict[Key, int] = {}
        self.vouched_for: dict[int, Stretch] | None = None
        self._stretches: dict[Key, Stretch] = {}  # of accounts that were opened since `vouching`
        self._of_producer: dict[int, dict[Key, None]] = {}  # the open ones; derived

    def store(self, key: Key, count: int, digest_sum: int, stretch: Stretch | None = None) -> None:
        """So much of the producer was stored, in batches of these sequences."""
        if stretch is not None and self._comes_late(key, stretch):
            self._write_off(key, count)
            return
        if self.vouching and stretch is not None:
            known = self._stretches.get(key)
            if known is not None:
                self._stretches[key] = min(known[0], stretch[0]), max(known[1], stretch[1])
            elif key not in self.open:
                self._stretches[key] = stretch
        self._move(key, count, digest_sum)

    def _comes_late(self, key: Key, stretch: Stretch) -> bool:
        """Whether the producer has vouched for these before; unless they are what it had reported, and that was not
        stored.
        """
        if not self.vouched_for:
            return False
        after, to = self.vouched_for.get(key[0], (0, 0))
        return after < stretch[0] and stretch[1] <= to and self.open.get(key, (0, 0))[0] >= 0

    def report(self, key: Key, count: int, digest_sum: int) -> None:
        """The producer says that so much was confirmed to it."""
        self._move(key, -count, -digest_sum)

    def vouch(self, producer_id: int, after: int, to: int, *, keep: bool) -> None:
        """The producer vouches that it has reported what was confirmed to it of all batches in (after, to].

        What is left of an account that has no others is `unconfirmed`. Accounts under different masks may hold the same
        items (a wrong mask): they are left as they are.

        Args:
            keep: whether the command is one whose word is kept for what is stored later.
        """
        if keep:
            self.vouched_for = self.vouched_for or {}
            self.vouched_for[producer_id] = after, to
        if not self.vouching:
            self.vouching = True
            return  # what is open by now has batches of unknown sequences
        for key in list(self._of_producer.get(producer_id, ())):
            stretch = self._stretches.get(key)
            if stretch is None or stretch[0] <= after or stretch[1] > to:
                continue
            count, _ = self.open[key]
            if count > 0 and not any(_may_share(key, other) for other in self._of_producer[producer_id]):
                self._remove(key)
                self._write_off(key, count)

    def forget(self, producer_id: int) -> None:
        """Nobody knows any more what the producer has said."""
        if self.vouched_for:
            self.vouched_for.pop(producer_id, None)

    def restored(self) -> None:
        """The state came out of a backup. What is open may have been reported after that was taken: no later word of
        its producer says that it was not confirmed.
        """
        self._stretches.clear()
        if self.vouched_for:
            self.vouched_for.clear()

    def _write_off(self, key: Key, count: int) -> None:
        self.unconfirmed[key] = self.unconfirmed.get(key, 0) + count
        if len(self.unconfirmed) > MOST_ACCOUNTS:
            oldest = next(iter(self.unconfirmed))
            self._wrote_off(oldest, self.unconfirmed.pop(oldest))

    def _move(self, key: Key, count: int, digest_sum: int) -> None:
        before = self.open.get(key)
        if before is not None:
            count, digest_sum = before[0] + count, before[1] + digest_sum
        digest_sum &= MASK64
        if count or digest_sum:
            self.open[key] = count, digest_sum
            if before is None:
                self._of_producer.setdefault(key[0], {})[key] = None
                if len(self.open) > MOST_ACCOUNTS:
                    self._close(next(iter(self.open)))
        elif before is not None:
            self._remove(key)

    def _remove(self, key: Key) -> None:
        del self.open[key]
        self._stretches.pop(key, None)
        keys = self._of_producer[key[0]]
        del keys[key]
        if not keys:
            del self._of_producer[key[0]]

    def close_before(self, minute: int) -> None:
        """Close those of earlier minutes."""
        old = [key for key in self.open if key[1] < minute]
        if self.vouched_for is not None:  # what is below zero first: see Ledger
            old.sort(key=lambda key: self.open[key][0] >= 0)
        for key in old:
            self._close(key)
        for key in [key for key in self.unconfirmed if key[1] < minute]:
            self._wrote_off(key, self.unconfirmed.pop(key))

    def _close(self, key: Key) -> None:
        count, digest_sum = self.open[key]
        self._remove(key)
        self._closed(key, count, digest_sum)

    def dump(self) -> list[int]:
        """The open ones, as numbers."""
        numbers = [len(self.open)]
        for key, (count, digest_sum) in self.open.items():
            numbers += *key, count & MASK64, digest_sum
        return numbers

    def loading(self, numbers: Iterator[int]) -> Iterator[None]:
        """Take what `dump` gave off the front, step by step, into an empty object."""
        for number in range(next(numbers)):
            if not number % STEP_ENTRIES:
                yield
            key, count, digest_sum = _key(numbers), next(numbers), next(numbers)
            self.open[key] = count - (1 << 64) if count >> 63 else count, digest_sum
            self._of_producer.setdefault(key[0], {})[key] = None

    def dump_vouched(self) -> list[int]:
        """What vouching needs and has found, as numbers; nothing as long as nobody has vouched for anything."""
        if not self.vouching:
            return []
        numbers = [len(self._stretches)]
        for key, stretch in self._stretches.items():
            numbers += *key, *stretch
        numbers.append(len(self.unconfirmed))
        for key, count in self.unconfirmed.items():
            numbers += *key, count
        if self.vouched_for is not None:
            numbers.append(len(self.vouched_for))
            for producer_id, word in self.vouched_for.items():
                numbers += producer_id, *word
        return numbers

    def loading_vouched(self, numbers: Iterator[int]) -> Iterator[None]:
        """Take what `dump_vouched` gave, the last there is, off the front, step by step."""
        stretches = next(numbers, None)
        if stretches is None:
            return
        self.vouching = True
        for number in range(stretches):
            if not number % STEP_ENTRIES:
                yield
            key = _key(numbers)
            self._stretches[key] = next(numbers), next(numbers)
        for number in range(next(numbers)):
            if not number % STEP_ENTRIES:
                yield
            key = _key(numbers)
            self.unconfirmed[key] = next(numbers)
        words = next(numbers, None)
        if words is not None:
            self.vouched_for = {}
            for number in range(words):
                if not number % STEP_ENTRIES:
                    yield
                producer_id = next(numbers)
                self.vouched_for[producer_id] = next(numbers), next(numbers)


def _may_share(key: Key, other: Key) -> bool:
    """Whether two accounts of a producer may hold the same items under different masks."""
    (_, minute, pub_id, mask, kind), (_, of_minute, of_pub, of_mask, of_kind) = key, other
    return key != other and (minute, pub_id, kind) == (of_minute, of_pub, of_kind) and bool(mask & of_mask)


def _key(numbers: Iterator[int]) -> Key:
    producer_id, minute, pub_id, mask, kind = (next(numbers) for _ in range(5))
    return producer_id, minute, pub_id, mask, kind
