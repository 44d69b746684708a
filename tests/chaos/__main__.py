"""``python -m tests.chaos``: see the package."""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import click

from phxqueue.admin import edge
from tests.chaos import sandbox
from tests.chaos.disks import unmount_below
from tests.chaos.faults import FAULTS
from tests.chaos.network import Network
from tests.chaos.report import Tally, report
from tests.chaos.round import Round
from tests.chaos.spec import NODES

#: A round is no longer than this: its histories, books and disks stay small.
ROUND_MINUTES = 5.0
NO_SANDBOX = "namespaces are not permitted here: no networks were cut and no disks were filled"


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="How long faults come; the verdicts come on top.")
@click.option("--seed", type=int, help="Decides the faults.  [default: a random one]")
@click.option("--only", multiple=True, type=click.Choice(sorted(FAULTS)), help="Only this fault; repeatable.")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), help="Where the run leaves its files.")
@click.option("--sandbox/--no-sandbox", "wanted", default=True, help="Namespaces for networks and disks.")
def main(minutes: float, seed: int | None, only: Sequence[str], directory: Path | None, wanted: bool) -> None:
    """Treat a cluster of real processes as badly as a machine can, and keep books about every item."""
    if wanted and not sandbox.inside() and (way := sandbox.way_in()) is not None:
        sandbox.enter(way)
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    made = directory is None
    directory = directory or Path(tempfile.mkdtemp(prefix="phxqueue-chaos-"))
    directory.mkdir(parents=True, exist_ok=True)
    kinds = [kind for kind in sorted(only or FAULTS) if sandbox.inside() or not needs_sandbox(kind)]
    if not kinds:
        raise click.ClickException(NO_SANDBOX)
    with (directory / "log.txt").open("a") as log:
        tell = Teller(log)
        tell(f"seed {seed}, files in {directory}")
        tally = Tally()
        status = 0
        try:
            edge.run(lambda reactor: run(reactor, minutes, seed, kinds, directory, tell, tally))
            tell("\n".join(report(tally, seed, tell.minutes, [] if sandbox.inside() else [NO_SANDBOX])))
        except (edge.Interrupted, KeyboardInterrupt) as interruption:  # the latter where no reactor runs yet
            status = getattr(interruption, "exit_status", 128 + signal.SIGINT)
            tell(f"interrupted after {tally.faults} faults; findings so far: {len(tally.findings)}")
    if tally.findings:
        click.echo(f"everything is kept in {directory}")
        status = 1
    elif status and made:
        sandbox.end_others()  # a round that was not given the time to clear up has not done so
        unmount_below(directory.resolve())
        shutil.rmtree(directory, ignore_errors=True)
    sys.exit(status)


def needs_sandbox(kind: str) -> bool:
    return FAULTS[kind].network or FAULTS[kind].disk


class Teller:
    """Says what goes on, to the terminal and to a file, with the time since the start."""

    def __init__(self, log: TextIO) -> None:
        self._log = log
        self._start = time.monotonic()

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self._start) / 60

    def __call__(self, text: str) -> None:
        line = f"[{self.minutes * 60:6.0f} s] {text}"
        click.echo(line)
        print(line, file=self._log, flush=True)


async def run(
    reactor: Any, minutes: float, seed: int, kinds: list[str], directory: Path, tell: Teller, tally: Tally
) -> None:
    """Run rounds into `tally` until the time is over or something was found."""
    network = Network(NODES) if sandbox.inside() else None
    rounds = max(1, round(minutes / ROUND_MINUTES))
    for number in range(rounds):
        place = directory / f"round{number}"
        await Round(reactor, place, seed, number, minutes * 60 / rounds, kinds, network, tell, tally).run()
        tell(f"round {number + 1} of {rounds}: {tally.confirmed:,} confirmed, {len(tally.findings)} findings")
        if tally.findings:
            break


if __name__ == "__main__":
    main()
