"""Where the time goes: py-spy on every process of a row, and the functions it was found in most often."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue

RATE = 200
SHOWN = 12


@dataclass(frozen=True, slots=True)
class Profile:
    """Samples of one process: how often a function was running itself, and how often it was on the stack at all."""

    name: str
    samples: int
    own: Counter[str]
    total: Counter[str]

    def lines(self) -> list[str]:
        """The functions in which most time was spent."""
        percent = 100 / max(self.samples, 1)
        shares = [
            f"  {count * percent:5.1f} %  {self.total[place] * percent:5.1f} %  {place}"
            for place, count in self.own.most_common(SHOWN)
        ]
        return [f"{self.name}: {self.samples / RATE:.2f} s of work seen; own share, share with callees:", *shares]


class Profiler:
    """Watches processes for some seconds; needs the right to trace them (root, or kernel.yama.ptrace_scope = 0)."""

    def __init__(self, reactor: Any, directory: Path) -> None:
        self._reactor = reactor
        self._directory = directory

    def start(self, name: str, pid: int, seconds: float) -> Deferred[Profile]:
        """Begin; fires with what was seen. The samples stay in a file, as flame graph tools read them."""
        program = shutil.which("py-spy") or str(Path(sys.executable).with_name("py-spy"))
        output = self._directory / f"{name.replace(' ', '-')}.samples"
        arguments = ["record", "--pid", str(pid), "--duration", str(max(int(seconds), 1)), "--rate", str(RATE)]
        arguments += ["--format", "raw", "--output", str(output), "--nonblocking"]
        done = getProcessOutputAndValue(program, arguments, reactor=self._reactor)
        return done.addCallback(self._read, name, output)

    def _read(self, result: tuple[bytes, bytes, int], name: str, output: Path) -> Profile:
        _, errors, status = result
        if status or not output.exists():
            raise RuntimeError(f"py-spy could not watch {name}: {errors.decode(errors='replace').strip()}")
        return summarize(name, output.read_text().splitlines())


def summarize(name: str, lines: Iterable[str]) -> Profile:
    """Count samples of the form "caller;callee;... count"."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = 0
    for line in lines:
        stack, _, count_text = line.rpartition(" ")
        places = [_place(frame) for frame in stack.split(";")]
        count = int(count_text)
        samples += count
        own[places[-1]] += count
        for place in set(places):
            total[place] += count
    return Profile(name, samples, own, total)


def _place(frame: str) -> str:
    """ "doRead (/long/path/phxqueue/net/rpc.py:123)" as "doRead net/rpc.py"."""
    function, _, rest = frame.partition(" (")
    path = rest.rstrip(")").rpartition(":")[0]
    return f"{function} {'/'.join(Path(path).parts[-2:])}".strip()
