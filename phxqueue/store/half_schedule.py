"""When half messages are to be asked about, and when the store gives them up: what one master remembers. Pure.

The times follow from when a half message was prepared and from its pub's policy: first `after_ms` later, then every
`every_ms`, `checks` times in all; at `deadline_ms` it is rolled back. A question that nobody was there to hear is kept
until somebody is, or the next one takes its place; so a new master asks once more at the most than it should have.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from phxqueue.store.half_table import Half, HalfTable

#: Decided ones that may be remembered, besides as many as there are undecided ones twice over.
_SPARE = 1024


@dataclass(frozen=True, slots=True)
class HalfPolicy:
    """Of one pub; times in milliseconds from when a half message was prepared."""

    after_ms: int
    every_ms: int
    checks: int
    deadline_ms: int

    def next_check(self, half: Half, now_ms: int) -> int | None:
        """The first time after `now_ms` at which to ask; None: never again."""
        first = half.prepared_ms + (half.check_after_ms or self.after_ms)
        number = 0 if now_ms < first else (now_ms - first) // self.every_ms + 1
        return first + number * self.every_ms if number < self.checks else None

    def checks_until(self, half: Half, now_ms: int) -> int:
        """How many times it was to be asked about by then."""
        first = half.prepared_ms + (half.check_after_ms or self.after_ms)
        return 0 if now_ms < first else min((now_ms - first) // self.every_ms + 1, self.checks)

    def ends(self, half: Half) -> int:
        """When the store rolls it back."""
        return half.prepared_ms + self.deadline_ms


class HalfSchedule:
    """Of one Paxos group, while its node is master.

    Args:
        policy: of a pub.
    """

    def __init__(self, table: HalfTable, policy: Callable[[int], HalfPolicy]) -> None:
        self._table = table
        self._policy = policy
        self._seen = 0  # half messages up to this number are in the heap, or were
        self._heap: list[tuple[int, int]] = []  # (when to look at it, half number)
        self._questions: dict[str, dict[int, None]] = {}  # by name: half numbers, the oldest question first
        self._overdue: dict[int, None] = {}

    def begin(self) -> None:
        """Mastership begins, or a policy has changed: plan everything anew."""
        self._seen = 0
        self._heap.clear()
        self._questions.clear()
        self._overdue.clear()

    def advance(self, now_ms: int) -> None:
        """Take in what was prepared since, and see what is due."""
        if self._table.next_number > self._seen + 1:
            for new in self._table.after(self._seen):
                heapq.heappush(self._heap, (self._next_look(new, new.prepared_ms), new.number))
            self._seen = self._table.next_number - 1
        self._prune()
        while self._heap and self._heap[0][0] <= now_ms:
            _, number = heapq.heappop(self._heap)
            half = self._table.find(number)
            if half is None:
                continue
            policy = self._policy(half.pub_id)
            if policy.ends(half) <= now_ms:
                self._overdue[number] = None
                continue
            if policy.checks_until(half, now_ms):
                self._questions.setdefault(self._table.name_of(half), {})[number] = None
            heapq.heappush(self._heap, (self._next_look(half, now_ms), number))

    def _prune(self) -> None:
        """Forget what is decided, when it is more than what is not: most are, long before anybody has to ask."""
        most = 2 * len(self._table) + _SPARE
        if len(self._heap) > most:
            self._heap = [look for look in self._heap if self._table.find(look[1]) is not None]
            heapq.heapify(self._heap)
        if sum(map(len, self._questions.values())) > most:
            for name, numbers in list(self._questions.items()):
                left = {number: None for number in numbers if self._table.find(number) is not None}
                self._questions[name] = left
                if not left:
                    del self._questions[name]

    @property
    def remembered(self) -> int:
        """Looks planned and questions waiting."""
        return len(self._heap) + sum(map(len, self._questions.values()))

    def _next_look(self, half: Half, now_ms: int) -> int:
        policy = self._policy(half.pub_id)
        check, ends = policy.next_check(half, now_ms), policy.ends(half)
        return ends if check is None else min(check, ends)

    @property
    def next_ms(self) -> int | None:
        """When `advance` has something to do; None: when something is prepared."""
        return self._heap[0][0] if self._heap else None

    @property
    def names(self) -> Iterable[str]:
        """Whose producers are to be asked something."""
        return list(self._questions)

    def take_questions(self, name: str, most: int) -> list[Half]:
        """What to ask producers of that name about, the oldest question first; each is asked once at its time."""
        waiting = self._questions.get(name, {})
        taken: list[Half] = []
        for number in list(waiting):
            if len(taken) == most:
                break
            del waiting[number]
            half = self._table.find(number)
            if half is not None:
                taken.append(half)
        if not waiting:
            self._questions.pop(name, None)
        return taken

    def take_overdue(self, most: int) -> list[int]:
        """Half numbers whose time is over; `give_back` those that could not be rolled back."""
        taken = list(self._overdue)[:most]
        for number in taken:
            del self._overdue[number]
        return [number for number in taken if self._table.find(number) is not None]

    def give_back(self, numbers: Iterable[int]) -> None:
        """They are overdue still."""
        self._overdue.update(dict.fromkeys(numbers))
