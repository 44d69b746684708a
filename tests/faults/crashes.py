"""Every state that a power failure could have left a process' files in, from one recording of what it wrote.

The undo log of the shim (disk.py) holds what each write replaced, and marks for the flushes. Walking it backwards gives
the files as they were at any moment; of what was not flushed by then each sector may be there or not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.faults.disk import Change, ChangeKind, DiskFaults

SECTOR, PAGE = 512, 4096
"""What the medium writes whole: of logs a sector; of tables a page, which they rest on (docs/disk-faults.md)."""
KEPT = (0.0, 0.05, 0.5, 0.95, 1.0)
"""How many of the unflushed sectors survive, from run to run."""

Files = dict[Path, bytearray]


@dataclass(frozen=True, slots=True)
class Crash:
    """One state: what the files hold, after so many recorded calls."""

    moment: int
    kept: float
    files: Files

    def write_to(self, directory: Path, root: Path) -> None:
        """Put the files below `directory`, as they lay below `root`."""
        for path, content in self.files.items():
            target = directory / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


class Recording:
    """What processes wrote below a directory, one after the other, until they were killed.

    `lives` has the faults of each: a record of its own, for what was being recorded when it was killed is cut off.
    """

    def __init__(self, lives: Sequence[DiskFaults], root: Path) -> None:
        self._changes = [change for faults in lives for change in faults.changes()]
        self._root = root.resolve()
        self._files: Files = {path: bytearray(path.read_bytes()) for path in self._root.rglob("*") if path.is_file()}

    def __len__(self) -> int:
        return len(self._changes)

    def crashes(self, random: Random, count: int) -> Iterator[Crash]:
        """Yield `count` states at moments and with losses drawn from `random`, the latest first."""
        moments = sorted((random.randrange(len(self) + 1) for _ in range(count)), reverse=True)
        unflushed = self._unflushed(set(moments))
        at, files = len(self), {path: bytearray(content) for path, content in self._files.items()}
        for moment in moments:
            while at > moment:
                at -= 1
                _take_back(files, self._changes[at])
            kept = random.choice(KEPT)
            yield Crash(moment, kept, self._torn(files, unflushed[moment], random, kept))

    def _unflushed(self, moments: set[int]) -> dict[int, list[int]]:
        """The changes that were not on the medium, at each of these moments."""
        found: dict[int, list[int]] = {}
        pending: dict[Path, list[int]] = defaultdict(list)
        for number, (kind, change) in enumerate([*self._changes, (ChangeKind.END, None)]):
            if number in moments:
                found[number] = sorted(one for some in pending.values() for one in some)
            if change is None:
                break
            if kind is ChangeKind.SYNC:
                pending.pop(change.path, None)
            else:
                pending[change.path].append(number)
        return found

    def _torn(self, files: Files, unflushed: list[int], random: Random, kept: float) -> Files:
        """Lose sectors of what was not flushed."""
        before = {path: bytearray(content) for path, content in files.items()}
        touched: dict[Path, set[int]] = defaultdict(set)
        for number in reversed(unflushed):
            change = self._changes[number][1]
            if change.path in before:
                _take_back(before, self._changes[number])
        for number in unflushed:
            _, change = self._changes[number]
            if change.path in before:
                unit = _unit(change.path)
                touched[change.path].update(_units(unit, change.offset, change.offset + len(change.before)))
                touched[change.path].update(_units(unit, change.size, len(files[change.path])))
        torn: Files = {}
        for path, content in files.items():
            lost = touched.get(path)
            torn[path] = content if lost is None else _mix(before[path], content, _unit(path), lost, random, kept)
        return {path: bytearray(content) for path, content in torn.items()}


def _take_back(files: Files, record: tuple[ChangeKind, Change]) -> None:
    kind, change = record
    content = files.get(change.path)
    if kind is ChangeKind.SYNC or content is None:
        return
    content[change.offset : change.offset + len(change.before)] = change.before
    if len(content) > change.size:
        del content[change.size :]
    else:
        content.extend(bytes(change.size - len(content)))


def _unit(path: Path) -> int:
    return PAGE if path.suffix == ".db" else SECTOR


def _units(unit: int, start: int, end: int) -> range:
    return range(start // unit, -(-end // unit)) if start < end else range(0)


def _mix(before: bytearray, after: bytearray, unit: int, touched: set[int], random: Random, kept: float) -> bytearray:
    size = len(after) if random.random() < max(kept, 0.5) else len(before)
    mixed = bytearray(before[:size]) + bytes(max(size - len(before), 0))
    for number in sorted(touched):
        start, end = number * unit, min((number + 1) * unit, size, len(after))
        if start < end and random.random() < kept:
            mixed[start:end] = after[start:end]
    return mixed
