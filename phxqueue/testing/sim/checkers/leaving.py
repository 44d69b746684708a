"""A consumer group that is in the files no more keeps its positions for its grace time; one that is in them, for ever.

What it was given up for is then over for it, and nothing else: that is Reference's and Cursors' to check.
"""

from __future__ import annotations

from phxqueue.testing.sim.checkers import Violation

ROUNDING = 0.001
"""Entries say when they were proposed in whole milliseconds."""


class Leaving:
    """Told when a group leaves the files of a node, and what is chosen about it.

    Args:
        grace: for how long its positions are kept, in seconds.
        skew: by how much the nodes' clocks are off.
    """

    def __init__(self, grace: float, skew: float) -> None:
        self._least = grace - 2 * skew  # noted by a clock that is ahead, or given up by one
        self._apart = 2 * skew + ROUNDING
        self._out: dict[int, float] = {}
        self._back: dict[int, float] = {}

    def out(self, group: int, now: float) -> None:
        """It is in the files of some node no more."""
        self._out.setdefault(group, now)

    def back(self, group: int, now: float) -> None:
        """It is in the files of all nodes again."""
        self._back[group] = now

    def leaves(self, group: int) -> None:
        """It is noted that it leaves."""
        if group not in self._out:
            raise Violation(f"group {group} is said to have left the files, and is in all of them or never was in any")

    def given_up(self, group: int, now: float, proposed: float) -> None:
        """Nothing is kept for it any more, because it has left; so an entry says that was `proposed` by some clock."""
        self.leaves(group)
        back = self._back.get(group)
        if back is not None and proposed > back + self._apart:
            raise Violation(
                f"group {group} is given up because it left the files, as of {proposed:.3f}; it is back in all of them "
                f"since {back:.3f}"
            )
        if now < self._out[group] + self._least:
            raise Violation(
                f"group {group} is given up {now - self._out[group]:.3f} s after it left the files, it has "
                f"{self._least:g} s at least"
            )
