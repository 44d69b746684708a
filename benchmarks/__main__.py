"""Command line of the benchmarks."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.calibration import HEADER, Calibration, calibrate
from benchmarks.scenarios import SCENARIOS
from phxqueue.admin import edge
from phxqueue.admin.histogram import duration
from phxqueue.admin.processes.files import ClusterSpec


@click.group(invoke_without_command=True)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Measure this machine. Without a command: the speed table."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(speed)


_directory = click.option(
    "--directory", type=click.Path(path_type=Path, file_okay=False, exists=True), default=tempfile.gettempdir(),
    show_default=True, help="Where the data goes: the disk matters.",
)  # fmt: skip


@main.command()
@click.option("--consumers", default=1000, show_default=True)
@click.option("--queues", default=10_000, show_default=True)
@click.option("--seconds", default=200, show_default=True, help="Simulated.")
@click.option("--seed", default=1, show_default=True)
def balance(consumers: int, queues: int, seconds: int, seed: int) -> None:
    """The scheduler on a simulated cluster under skewed load: static weights against its own."""
    from benchmarks.balance import table

    for line in table(consumers, queues, seconds, seed):
        click.echo(line)


@main.command()
@click.option("--rounds", default=5, show_default=True, help="How often each drill is done.")
@click.option("--only", multiple=True, help="kill, stop, scheduler, lock, kill+scheduler or kill+lock; repeatable.")
@_directory
def takeover(rounds: int, only: Sequence[str], directory: Path) -> None:
    """For how long queues stand still when consumers, schedulers and lock masters die: with the default leases."""
    from benchmarks.takeover import DRILLS, measure

    unknown = set(only) - set(DRILLS)
    if unknown:
        raise click.UsageError(f"--only: {', '.join(sorted(unknown))}; there are {', '.join(DRILLS)}")
    with tempfile.TemporaryDirectory(dir=directory) as place:
        edge.run(lambda reactor: measure(reactor, Path(place), rounds, only or list(DRILLS), click.echo))


@main.command()
@click.option("--queues", default=12, show_default=True)
@click.option("--rate", default=20.0, show_default=True, help="Messages a second.")
@click.option("--seconds", default=20.0, show_default=True)
@_directory
def latency(queues: int, rate: float, seconds: float, directory: Path) -> None:
    """From enqueue() to the handler in an idle system whose queues are owned by locks and a scheduler."""
    from benchmarks.latency import measure

    with tempfile.TemporaryDirectory(dir=directory) as place:
        edge.run(lambda reactor: measure(reactor, Path(place), queues, rate, seconds, click.echo))


@main.command()
@click.option("--queues", default=1000, show_default=True)
@click.option("--seconds", default=60.0, show_default=True)
@_directory
def idle(queues: int, seconds: float, directory: Path) -> None:
    """Processor time of a consumer that owns many empty queues by locks."""
    from benchmarks.idle import measure

    with tempfile.TemporaryDirectory(dir=directory) as place:
        edge.run(lambda reactor: measure(reactor, Path(place) / "cluster", queues, seconds, click.echo))


@main.command()
@click.option("--only", multiple=True, type=click.Choice([s.key for s in SCENARIOS]), help="Only this row; repeatable.")
@click.option("--seconds", default=5.0, show_default=True, help="How long each row sends.")
@click.option("--queues", default=1, show_default=True, help="Queues the messages are spread over.")
@click.option("--tls/--no-tls", default=True, show_default=True, help="Mutual TLS between everybody.")
@click.option("--profiles", type=click.Path(path_type=Path, file_okay=False), help="Leave py-spy samples here.")
@_directory
def speed(only: Sequence[str], seconds: float, queues: int, tls: bool, profiles: Path | None, directory: Path) -> None:
    """The speed table: throughput and latency of three stores, a client and a reader."""
    from benchmarks.speed import Measured, measure

    chosen = [scenario for scenario in SCENARIOS if not only or scenario.key in only]
    spec = ClusterSpec(queues=queues, tls=tls)

    async def run(reactor: Any) -> list[Measured]:
        measured = []
        for scenario in chosen:
            click.echo(f"running: {scenario.work} ...", err=True)
            samples = profiles / scenario.key if profiles is not None else None
            measured.append(await measure(reactor, scenario, seconds, spec, directory, samples))
        return measured

    before = calibrate_in(directory)
    measured = edge.run(run)
    after = calibrate_in(directory)
    click.echo("\n".join([*_machine(queues, tls), "", *speed_table(measured), "", *_calibration(before, after)]))
    for row in measured:
        for profile in row.profiles:
            click.echo("\n".join(["", f"{row.scenario.work}: {profile.lines()[0]}", *profile.lines()[1:]]))


@main.command()
@click.option("--rounds", default=7, show_default=True, help="How often all three are measured in turn.")
@click.option("--items", default=20_000, show_default=True, help="Of each round and pub.")
@click.option("--batch", default=50, show_default=True, help="Items of one enqueue_many.")
@click.option("--size", default=100, show_default=True, help="Bytes of an item.")
@_directory
def reconcile(rounds: int, items: int, batch: int, size: int, directory: Path) -> None:
    """What reconciliation costs: `off`, `alarm` and `strict` in turns."""
    from benchmarks.reconciling import digest_seconds, lines, reconciling

    def tell(text: str) -> None:
        click.echo(text, err=True)

    with tempfile.TemporaryDirectory(dir=directory) as place:
        costs = edge.run(
            lambda reactor: reconciling(reactor, Path(place) / "cluster", rounds, items, batch, size, tell)
        )
    click.echo("\n".join(lines(costs, digest_seconds(size))))


@main.command()
@click.option("--kills", default=10, show_default=True, help="How often.")
@click.option("--rolling", default=0, metavar="ROUNDS", help="Restart all nodes in good order instead, so often.")
@_directory
def failover(kills: int, rolling: int, directory: Path) -> None:
    """Kill the master under load: how long is nothing confirmed?"""
    from benchmarks import failover as killing
    from benchmarks import rolling as restarting

    def tell(text: str) -> None:
        click.echo(text, err=True)

    before = calibrate_in(directory)
    if rolling:
        lines = restarting.rolling_summary(
            edge.run(lambda reactor: restarting.rolling(reactor, rolling, directory, tell))
        )
    else:
        lines = killing.summary(edge.run(lambda reactor: killing.failover(reactor, kills, directory, tell)))
    after = calibrate_in(directory)
    click.echo("\n".join([*lines, "", *_calibration(before, after)]))


@main.command()
@click.option("--items", default=1_000_000, show_default=True, help="How many items are delayed.")
def delayed(items: int) -> None:
    """Delay many items: memory, what they cost those that are not delayed, and firing. The state machine alone."""
    from benchmarks.delayed_state import measure_delayed

    click.echo("\n".join(measure_delayed(items).lines()))


@main.command()
@click.option("--items", default=10_000_000, show_default=True, help="How many items are retained.")
@click.option(
    "--consumed", is_flag=True, help="Acknowledge and trim them: the node that missed them needs a checkpoint."
)
@_directory
def retained(items: int, consumed: bool, directory: Path) -> None:
    """Retain many items: memory, checkpoints, restart, and a node that missed them all."""
    from benchmarks.retained import retained as run
    from benchmarks.retained_state import measure_state

    before = calibrate_in(directory)

    def tell(text: str) -> None:
        click.echo(text, err=True)

    found = edge.run(lambda reactor: run(reactor, items, directory, tell, consumed=consumed))
    cost = measure_state(items)
    after = calibrate_in(directory)
    click.echo("\n".join([*found.lines(), "", *cost.lines(), "", *_calibration(before, after)]))


@main.command()
@click.option("--gigabytes", default=5.0, show_default=True, help="Enqueued and consumed in all.")
@click.option("--keep-mb", default=500, show_default=True, help="`retention_bytes` of the pub.")
@click.option("--item-bytes", default=10_000, show_default=True)
@click.option("--nodes", default=3, show_default=True, help="Of the store.")
@click.option("--relocate-mb", type=int, help="Pin the log by a message due tomorrow, with this `relocate_bytes`.")
@_directory
def retention(
    gigabytes: float, keep_mb: int, item_bytes: int, nodes: int, relocate_mb: int | None, directory: Path
) -> None:
    """Gigabytes through a store that may keep little: how large do the data directories get?"""
    from benchmarks.retention import retention as run

    before = calibrate_in(directory)

    def tell(text: str) -> None:
        click.echo(text, err=True)

    total, keep = int(gigabytes * 1e9), keep_mb * 1_000_000
    relocate = None if relocate_mb is None else relocate_mb * 1_000_000
    found = edge.run(lambda reactor: run(reactor, total, keep, item_bytes, nodes, directory, tell, relocate=relocate))
    after = calibrate_in(directory)
    click.echo("\n".join([*found.lines(), "", *_calibration(before, after)]))


@main.command()
@click.option("--in-flight", "depths", multiple=True, type=click.IntRange(1), default=(1, 64, 512), show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="How long each row works.")
@click.option("--rounds", default=3, show_default=True, help="How often all rows are measured in turn.")
@click.option("--kills", default=3, show_default=True, help="How often each master is killed.")
@click.option("--tls/--no-tls", default=False, show_default=True, help="Mutual TLS on our side; etcd has none here.")
@_directory
def locks(depths: Sequence[int], seconds: float, rounds: int, kills: int, tls: bool, directory: Path) -> None:
    """Locks, renewals and compare-and-swap beside etcd's (Debian: etcd-server), and the death of the master."""
    from benchmarks.locks import compare, table

    before = calibrate_in(directory)

    def tell(text: str) -> None:
        click.echo(text, err=True)

    rows, gaps = edge.run(
        lambda reactor: compare(reactor, directory, depths, seconds, rounds, kills, tls=tls, tell=tell)
    )
    after = calibrate_in(directory)
    click.echo("\n".join([*table(rows, gaps), "", *_calibration(before, after)]))


def calibrate_in(directory: Path) -> Calibration:
    """Measure the machine, in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        return calibrate(Path(scratch))


def _machine(queues: int, tls: bool) -> list[str]:
    machine = f"{os.cpu_count()} CPUs, Python {platform.python_version()}, Linux {platform.release()}"
    switches = f"{queues} queue(s); TLS {'on' if tls else 'OFF'}; fsync before every acknowledgement"
    return [f"{machine}; 3 stores, 1 client, 1 reader; {switches}"]


def speed_table(measured: Sequence[Any]) -> list[str]:
    """Return the Markdown table of some rows."""
    lines = [
        "| work | here | prototype | share | p50 | p99 | max | goal | read | CPU (cores) | CPU per item |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in measured:
        scenario, load = row.scenario, row.load
        prototype = f"{scenario.prototype:,.0f}/s" if scenario.prototype else ""
        share = f"{load.rate / scenario.prototype:.2f}" if scenario.prototype else ""
        if scenario.end_to_end:
            p50, p99, most = (duration(row.latency_us[part]) for part in (0.5, 0.99, 0.999))
            most = f"p99.9 {most}"
        else:
            p50, p99 = (duration(load.latencies.percentile(part)) for part in (0.5, 0.99))
            most = duration(load.latencies.max_us)
        cpu = ", ".join(f"{name} {used:.2f}" for name, used in row.cpu.items())
        # Neighbours change what a machine gets done in a second much more than what an item costs.
        per_item = f"{sum(row.cpu.values()) / load.rate * 1e6:,.1f} µs" if load.rate else ""
        failed = sum(load.statuses.values()) - load.confirmed
        rate = f"{load.rate:,.0f}/s" + (f" ({failed:,} FAILED: {load.first_error})" if failed else "")
        read = f"{row.read_rate:,.0f}/s" + (f", {row.behind:,} behind" if row.behind > load.rate * 0.2 else "")
        lines.append(
            f"| {scenario.work} | {rate} | {prototype} | {share} | {p50} | {p99} | {most} | {scenario.goal} | {read} "
            f"| {cpu} | {per_item} |"
        )
    return lines


def _calibration(before: Calibration, after: Calibration) -> list[str]:
    return [*HEADER, *before.lines("before"), *after.lines("after")]


if __name__ == "__main__":
    main()
