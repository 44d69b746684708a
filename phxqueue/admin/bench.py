"""``phxqueue bench``: the original's producer_benchmark_main, against a cluster that runs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from phxqueue.admin import edge
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.echo import ECHO_PUB, QUIET_HANDLE
from phxqueue.admin.errors import AdminError
from phxqueue.admin.histogram import render
from phxqueue.admin.progress import Progress

if TYPE_CHECKING:
    from phxqueue.admin.load import Load, LoadResult

MAX_UIN = (1 << 64) - 1


@click.group()
def bench() -> None:
    """Measure what the cluster takes."""


@bench.command()
@click.argument("qps", type=click.FloatRange(0))
@click.argument("connections", type=click.IntRange(1, 1000))
@click.argument("in_flight", type=click.IntRange(1, 100_000))
@click.argument("size", type=click.IntRange(0))
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1), help="Messages of one enqueue_many.")
@click.option("--duration", default=10.0, show_default=True, type=click.FloatRange(0.1), help="Seconds to send.")
@click.option("--uin", default="0", show_default=True, help="Ordering key; 1-1000: a random one of these.")
@click.option("--pub", default=ECHO_PUB, show_default=True, help="Where to publish.")
@click.option("--handle", default=QUIET_HANDLE, show_default=True, help="The message type.")
@cluster_command
def producer(
    settings: ClusterContext,
    qps: float,
    connections: int,
    in_flight: int,
    size: int,
    batch: int,
    duration: float,
    uin: str,
    pub: int,
    handle: int,
) -> None:
    """Enqueue QPS messages a second (0: as many as possible) of SIZE bytes, over CONNECTIONS producers.

    Each producer keeps at most IN_FLIGHT enqueues on their way. Arrivals are random (Poisson) and a latency counts
    from the moment a message was due, so that a slow answer shows in all that waited behind it. Exit status 1 when
    a message was not confirmed.
    """
    from phxqueue.admin.load import LoadPlan

    cluster = settings.load()
    topic = settings.topic_of(cluster)
    tls = settings.tls_of(cluster)
    content = random.randbytes(size // 2 + 1).hex()[:size].encode()  # printable: somebody may look at it
    plan = LoadPlan(
        in_flight=in_flight,
        qps=qps,
        batch=batch,
        pub_id=pub,
        handle_id=handle,
        make_buffer=lambda: content,
        make_uin=parse_uin(uin),
    )

    async def main(reactor: Any) -> LoadResult:
        from phxqueue.admin.load import Load
        from phxqueue.producer import Producer

        producers = [await Producer.connect(cluster, topic=topic.topic_name, tls=tls) for _ in range(connections)]
        load = Load(reactor, producers, plan)
        try:
            with Progress(reactor, lambda: progress_text(load, reactor.seconds(), duration)):
                await load.run(duration)
        finally:
            for each in producers:
                await each.close()
            click.echo("\n".join(report(load.result)))
        return load.result

    result = edge.run(main)
    if set(result.statuses) - {"OK"}:
        raise click.exceptions.Exit(1)


def parse_uin(text: str) -> Callable[[], int]:
    """Return what makes ordering keys: always the same one, or a random one of a range "first-last".

    Raises:
        AdminError: neither of these.
    """
    first_text, dash, last_text = text.partition("-")
    if not first_text.isdecimal() or (dash and not last_text.isdecimal()):
        raise AdminError(f"--uin {text!r}: write one number, or a range such as 1-1000")
    first, last = int(first_text), int(last_text or first_text)
    if not first <= last <= MAX_UIN:
        raise AdminError(f"--uin {text!r}: the numbers go up, and to 2**64 - 1 at most")
    if first == last:
        return lambda: first
    generator = random.Random()
    return lambda: generator.randint(first, last)


def progress_text(load: Load, now: float, duration_s: float) -> str:
    """Return the line that is shown while it runs."""
    elapsed = now - load.result.started
    confirmed = load.result.confirmed
    failed = sum(load.result.statuses.values()) - confirmed
    text = f"{elapsed:.0f} of {duration_s:.0f} s: {confirmed:,} confirmed, {confirmed / max(elapsed, 0.001):,.0f}/s"
    return text + (f", {failed:,} FAILED" if failed else "")


def report(result: LoadResult) -> list[str]:
    """Return the lines that are printed at the end."""
    statuses = ", ".join(f"{name} {count:,}" for name, count in sorted(result.statuses.items()))
    lines = [
        f"{result.confirmed:,} messages confirmed in {result.seconds:.2f} s: {result.rate:,.0f}/s",
        f"statuses: {statuses or 'none'}",
    ]
    if result.first_error:
        lines.append(f"first failure: {result.first_error}")
    return lines + render(result.latencies)
