"""``phxqueue certs``: a private authority and the certificates of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from phxqueue.admin.certificates import (
    RENEW_SOON_DAYS,
    directory_of,
    facts_of,
    identity_for,
    issue_leaf,
    leaves,
    make_missing,
    now_utc,
)
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError
from phxqueue.admin.table import table
from phxqueue.config import Leaf
from phxqueue.config.certificates import AUTHORITY_CERTIFICATE, AUTHORITY_KEY
from phxqueue.config.problems import shown_path
from phxqueue.net.certs import DEFAULT_AUTHORITY_DAYS, DEFAULT_LEAF_DAYS
from phxqueue.net.certs import renew as renew_certificate

_ROLES = ("store", "consumer", "client", "lock", "scheduler", "admin")

_directory_option = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where authority and certificates lie [default: where the cluster's file says].",
)
_days_option = click.option(
    "--days", default=DEFAULT_LEAF_DAYS, show_default=True, type=click.IntRange(1), help="How long it is valid."
)


def _directory(settings: ClusterContext, given: Path | None) -> Path:
    return given if given is not None else directory_of(settings.load())


@click.group()
def certs() -> None:
    """Make, renew and show certificates.

    Everybody in a cluster proves who he is by a certificate of one private authority. Keep its key (ca.key) off the
    machines that run the queue: it is needed to issue and to renew, never to run.
    """


@certs.command(short_help="Make an authority and all certificates of the cluster.")
@_directory_option
@_days_option
@click.option(
    "--authority-days",
    default=DEFAULT_AUTHORITY_DAYS,
    show_default=True,
    type=click.IntRange(1),
    help="How long the authority is valid.",
)
@click.option("--missing", is_flag=True, help="Keep what is there, make what is missing.")
@cluster_command
def init(settings: ClusterContext, directory: Path | None, days: int, authority_days: int, missing: bool) -> None:
    """Make an authority, and a certificate for every node in the cluster's files and for clients."""
    cluster = settings.load()
    target = directory if directory is not None else directory_of(cluster)
    present = [path for path in (target / AUTHORITY_CERTIFICATE, target / AUTHORITY_KEY) if path.exists()]
    if present and not missing:
        raise AdminError(
            f"{shown_path(present[0])} exists already and is kept. To add what new nodes need: "
            "phxqueue certs init --missing. To make one certificate: phxqueue certs issue. "
            f"To begin anew: remove {shown_path(target)} and restart everything."
        )
    made = make_missing(target, leaves(cluster), days=days, authority_days=authority_days, name=cluster.name)
    if not made:
        click.echo(f"nothing is missing in {shown_path(target)}")
        return
    for path in made:
        click.echo(f"made {shown_path(path)}")
    if target / AUTHORITY_CERTIFICATE in made:
        key = shown_path(target / AUTHORITY_KEY)
        click.echo(f"Keep {key} secret and off the nodes: whoever has it can pose as any of them.")


@certs.command(short_help="Issue one certificate.")
@click.argument("role", type=click.Choice(_ROLES))
@click.argument("name")
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="Address or host name it listens on; repeatable.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Directory of the new files.")
@_directory_option
@_days_option
@cluster_command
def issue(
    settings: ClusterContext,
    role: str,
    name: str,
    hosts: Sequence[str],
    output: Path | None,
    directory: Path | None,
    days: int,
) -> None:
    """Issue one certificate: `issue store 1/0 --host 10.0.0.1`, `issue client anna`."""
    identity = identity_for(role, name)
    made = issue_leaf(_directory(settings, directory), Leaf(role, name, tuple(hosts)), days=days, output=output)
    click.echo(f"made {shown_path(made)} and {shown_path(made.with_suffix('.key'))} for {identity.uri}")


@certs.command(short_help="Extend certificates.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@_directory_option
@_days_option
@cluster_command
def renew(settings: ClusterContext, files: Sequence[Path], directory: Path | None, days: int) -> None:
    """Extend certificates (all of the directory when none is named): same identity, hosts and key, new dates.

    Processes that run read them again on SIGHUP.
    """
    home = _directory(settings, directory)
    chosen = list(files) or _leaf_files(home)
    if not chosen:
        raise AdminError(f"there are no certificates in {home}: make them with `phxqueue certs init`")
    for path in chosen:
        renew_certificate(home, path, days=days)
        click.echo(f"renewed {shown_path(path)} for {days} days")
    click.echo("Have running processes read them: kill -HUP <pid>, or systemctl reload.")


@certs.command(short_help="Show whose they are and how long they last.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@_directory_option
@cluster_command
def show(settings: ClusterContext, files: Sequence[Path], directory: Path | None) -> None:
    """Show whose certificates there are and how long they last.

    Exit status 1 when one has expired.
    """
    chosen = list(files) or sorted(_directory(settings, directory).glob("*.pem"))
    if not chosen:
        raise AdminError("there are no certificates here: make them with `phxqueue certs init`")
    now = now_utc()
    found = [facts_of(path) for path in chosen]
    rows = []
    for facts in found:
        left = facts.days_left(now)
        remark = "EXPIRED" if left < 0 else "renew soon" if left < RENEW_SOON_DAYS else ""
        rows.append(
            (shown_path(facts.path), facts.identity, " ".join(facts.hosts), f"{facts.not_after:%Y-%m-%d}", left, remark)
        )
    click.echo("\n".join(table(("FILE", "IDENTITY", "HOSTS", "UNTIL", "DAYS", ""), rows, left=3, indent=0)))
    if any(facts.days_left(now) < 0 for facts in found):
        raise click.exceptions.Exit(1)


def _leaf_files(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.glob("*.pem")) if not facts_of(path).is_authority]
