"""``phxqueue demo``: a whole cluster on this machine, as a person would run it; a master and a consumer are killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from phxqueue.admin import edge
from phxqueue.admin.context import ClusterContext, cluster_command


@click.group()
def demo() -> None:
    """Start and stop a whole cluster on this machine.

    The daemons are those of the files store.N.conf, lock.N.conf, scheduler.N.conf and consumer.N.conf beside the
    cluster's file. Their pid files are in run/, their logs in logs/, their data in data/, all below the current
    directory.
    """


@demo.command()
@cluster_command
def start(settings: ClusterContext) -> None:
    """Start it, send a message, kill the master, send another one, kill a consumer."""
    from phxqueue.admin.demo.layout import DemoLayout
    from phxqueue.admin.demo.story import Story

    layout = DemoLayout.load(settings, Path.cwd())

    async def main(reactor: Any) -> None:
        await Story(reactor, layout, click.echo).tell()

    edge.run(main)


@demo.command()
@cluster_command
def stop(settings: ClusterContext) -> None:
    """Stop its daemons, whatever state they are in."""
    from phxqueue.admin.demo.daemons import running_daemons, stop_daemons

    directory = Path.cwd()

    async def main(reactor: Any) -> None:
        daemons = running_daemons(directory)
        if not daemons:
            click.echo("no demo is running here")
        await stop_daemons(reactor, directory, daemons, click.echo)

    edge.run(main)


@demo.command()
@cluster_command
def status(settings: ClusterContext) -> None:
    """Say which daemons run.

    Exit status 1 when none does. `phxqueue status` asks them how they are.
    """
    from phxqueue.admin.demo.daemons import running_daemons

    daemons = running_daemons(Path.cwd())
    for daemon in daemons:
        click.echo(f"{daemon.name} runs, pid {daemon.pid}")
    if not daemons:
        click.echo("no demo is running here")
        raise click.exceptions.Exit(1)
