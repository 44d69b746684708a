"""``phxqueue config``: look at configuration files before a process does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError


@click.group()
def config() -> None:
    """Check configuration files."""


@config.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--certificates", is_flag=True, help="Also see whether the certificates they name are there.")
@cluster_command
def check(settings: ClusterContext, paths: Sequence[Path], certificates: bool) -> None:
    """Check the files and directories named: every problem in one report.

    Without PATHS: the cluster's file, those that it names, and the nodes' files beside it. Exit status 1 when there
    are errors; warnings alone are fine.
    """
    from phxqueue.config import check as check_paths

    chosen = list(paths) or [settings.config, *_node_files(settings.config.parent)]
    for path in chosen:
        if not path.exists():
            raise AdminError(f"{path} does not exist")
    report = check_paths(chosen, check_files=certificates)
    for problem in report.problems:
        click.echo(f"{'warning' if problem.warning else 'error'}: {problem}")
    click.echo(
        f"{len(report.files)} files, {_count(len(report.errors), 'error')}, {_count(len(report.warnings), 'warning')}"
    )
    if not report.ok:
        raise click.exceptions.Exit(1)


def _node_files(directory: Path) -> list[Path]:
    return sorted(
        path for role in ("store", "lock", "scheduler", "consumer") for path in directory.glob(f"{role}.*conf")
    )


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
