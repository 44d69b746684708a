"""Dead letters are complete: an item that nobody could handle is one, once for each group, with its reason.

Twice only where its consumer died before the acknowledgement of a copy was durable: what it had done is done again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from phxqueue.testing.sim.checkers import Violation

ItemOfGroup = tuple[bytes, int]
"""(item, consumer group id)"""


@dataclass(frozen=True, slots=True)
class FoundLetter:
    """What a dead letter says of itself."""

    item: bytes
    group: int
    reason: str
    attempts: int


def check_letters(
    wanted: Mapping[bytes, tuple[str, int]], groups: Iterable[int], repeats: Counter[ItemOfGroup],
    letters: Iterable[FoundLetter],
) -> None:  # fmt: skip
    """Compare what is there with what has to be.

    Args:
        wanted: every item that was stored: the reason and the attempts of its letter; ("", 0): there must be none.
        repeats: how often a copy of an item was, perhaps, handled once more than it should.
    """
    found: Counter[ItemOfGroup] = Counter()
    for letter in letters:
        expected = wanted.get(letter.item)
        if expected != (letter.reason, letter.attempts):
            raise Violation(f"dead letter {letter}: it has to be {expected} (reason, attempts)")
        found[letter.item, letter.group] += 1
    for item, (reason, _) in wanted.items():
        for group in groups:
            key = item, group
            least, most = (1, 1 + repeats[key]) if reason else (0, 0)
            if not least <= found[key] <= most:
                raise Violation(
                    f"{item!r} of group {group} is {found[key]} dead letters, it has to be {least} to {most}"
                )
