"""Whether two ever believed to hold one lock, and whether tokens rise: judged from what holders wrote. Pure.

Times are of one clock for all processes of the machine (``time.monotonic``). What is judged cannot be the fault of a
process that was stopped between two of its instructions:

- *got*: somebody holds the lock under this token since a moment between `asked` and `now`;
- *used*: at a moment not before `now` its client still said that the token is good.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

GOT, USED = "got", "used"
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Belief:
    """One line: what a process believed at `now` of a lock that it had begun to ask for at `asked`."""

    pid: int
    name: str
    kind: str
    token: int
    asked: float
    now: float

    @classmethod
    def parse(cls, line: str) -> Belief:
        """The reverse of str()."""
        pid, name, kind, token, asked, now = line.split(" ")
        return cls(int(pid), name, kind, int(token), float(asked), float(now))

    def __str__(self) -> str:
        return f"{self.pid} {self.name} {self.kind} {self.token} {self.asked!r} {self.now!r}"


def violations(beliefs: Iterable[Belief]) -> list[str]:
    """What no lock service may do; the first few of each lock."""
    by_name: dict[str, list[Belief]] = {}
    for belief in beliefs:
        by_name.setdefault(belief.name, []).append(belief)
    return [found for name, ours in sorted(by_name.items()) for found in _of_one(name, ours)[:SHOWN]]


def _of_one(name: str, beliefs: list[Belief]) -> list[str]:
    got: dict[int, Belief] = {}
    found = []
    for belief in beliefs:
        if belief.kind == GOT and (other := got.setdefault(belief.token, belief)) is not belief:
            found.append(f"lock {name}: token {belief.token} was given to {other.pid} and to {belief.pid}")
    found += _tokens_that_fall(name, sorted(got.values(), key=lambda one: one.asked))
    found += _believed_too_long(name, got, [one for one in beliefs if one.kind == USED])
    return found


def _tokens_that_fall(name: str, got: list[Belief]) -> list[str]:
    """Who asked after another had got the lock gets a higher token. `got`: in the order in which they asked."""
    found = []
    told = sorted(got, key=lambda one: one.now)
    highest: Belief | None = None
    place = 0
    for one in got:
        while place < len(told) and told[place].now < one.asked:
            highest = max(told[place], highest or told[place], key=lambda other: other.token)
            place += 1
        if highest is not None and one.token <= highest.token:
            found.append(
                f"lock {name}: {one.pid} asked at {one.asked:.6f} and got token {one.token}; {highest.pid} had been "
                f"told {highest.token} at {highest.now:.6f}"
            )
    return found


def _believed_too_long(name: str, got: dict[int, Belief], used: list[Belief]) -> list[str]:
    """A token is good for nothing from the moment at which anybody has been told a higher one."""
    found = []
    first_above: dict[int, Belief] = {}
    earliest: Belief | None = None
    for token in sorted({*got, *(one.token for one in used)}, reverse=True):
        if earliest is not None:
            first_above[token] = earliest
        if token in got and (earliest is None or got[token].now < earliest.now):
            earliest = got[token]
    for one in used:
        above = first_above.get(one.token)
        if above is not None and one.now > above.now:
            found.append(
                f"lock {name}: {one.pid} believed in token {one.token} at {one.now:.6f}, and {above.pid} held it with "
                f"token {above.token} since {above.now:.6f} at the latest"
            )
    return found
