"""What is told of a run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.integration.ledger import Books, HandledLog

_COLUMNS = (statistics.median, max)


@dataclass
class Tally:
    """What happened, added up over the rounds of a run.

    Attributes:
        gaps, lags: per kind of fault, of each occurrence: the longest time without a confirmation, and the longest that
            items of some uin waited for a consumer, in seconds.
        operations: recorded and checked for linearizability.
        locks: taken by holders that are judged.
        audited: acknowledgements that agreed with what is stored, after the last restart of each node.
    """

    rounds: int = 0
    gaps: dict[str, list[float]] = field(default_factory=dict)
    lags: dict[str, list[float]] = field(default_factory=dict)
    sent: int = 0
    confirmed: int = 0
    unknown: int = 0
    refused: int = 0
    handled: int = 0
    twice: int = 0
    operations: int = 0
    locks: int = 0
    audited: int = 0
    findings: list[str] = field(default_factory=list)

    def saw(self, kind: str, gap: float, lag: float) -> None:
        """A fault has come and gone."""
        self.gaps.setdefault(kind, []).append(gap)
        self.lags.setdefault(kind, []).append(lag)

    def count(self, books: Books, log: HandledLog) -> None:
        """Take in the books of a round."""
        self.rounds += 1
        self.sent += len(books.sent)
        self.confirmed += len(books.confirmed)
        self.unknown += len(books.unknown)
        self.refused += len(books.refused)
        self.handled += len(log.distinct)
        self.twice += len(log.entries) - len(log.distinct)

    @property
    def faults(self) -> int:
        return sum(map(len, self.gaps.values()))


def report(tally: Tally, seed: int, minutes: float, skipped: Sequence[str]) -> list[str]:
    """Return the lines of the final report."""
    lines = [
        f"seed {seed}, {minutes:.1f} minutes, {tally.rounds} rounds judged, {tally.faults} faults",
        f"items: {tally.sent:,} sent, {tally.confirmed:,} confirmed, {tally.unknown:,} of unknown outcome",
        f"items: {tally.refused:,} refused, {tally.handled:,} handled, {tally.twice:,} times again",
        f"operations in recorded histories: {tally.operations:,}; locks taken by holders: {tally.locks:,}",
        f"acknowledgements that reconciliation compared after the last restarts: {tally.audited:,}",
        *skipped,
        "",
        "| fault | times | nothing confirmed: median | longest | a uin not handled: median | longest |",
        "|---|---|---|---|---|---|",
    ]
    for kind, gaps in sorted(tally.gaps.items()):
        times = " | ".join(f"{of(seconds):.2f} s" for seconds in (gaps, tally.lags[kind]) for of in _COLUMNS)
        lines.append(f"| {kind} | {len(gaps)} | {times} |")
    lines += ["", f"findings: {len(tally.findings)}", *tally.findings]
    return lines
