"""``phxqueue locks``: who holds which lock, a command under a lock, and the strings of the lock service."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from phxqueue.admin import edge
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError
from phxqueue.admin.lock_spread import spread
from phxqueue.admin.rendering import readable
from phxqueue.admin.table import age, table

if TYPE_CHECKING:
    from phxqueue.lock.client import Held, LockClient, LockState, StringValue

ResultT = TypeVar("ResultT")

#: Exit statuses of `acquire`, besides the command's own (of sysexits.h: temporary failure, and protocol error).
NOT_ACQUIRED, LOST = 75, 76
#: What the command finds in its environment.
NAME_VARIABLE, TOKEN_VARIABLE = "PHXQUEUE_LOCK_NAME", "PHXQUEUE_LOCK_TOKEN"

#: How often `acquire` says again why the service grants no locks.
_SAY_AGAIN_S = 30.0

_lease_option = click.option(
    "--lease", default=30.0, show_default=True, type=click.FloatRange(0.1),
    help="Seconds after which others may have it when nothing is heard of this process.",
)  # fmt: skip


@click.group()
def locks() -> None:
    """Hold locks, look at them, and read and write the strings of the lock service."""


locks.add_command(spread)


def _run(settings: ClusterContext, work: Callable[[LockClient], Awaitable[ResultT]]) -> ResultT:
    """Do something with a connected client."""
    from phxqueue.lock.client import LockClient
    from phxqueue.net.clock import use_monotonic_time

    cluster = settings.load()
    topic = settings.topic_of(cluster)
    tls = settings.tls_of(cluster)
    if not topic.locks:
        raise AdminError(
            f"topic {topic.topic_name} has no lock groups: name their file in {settings.config} (lock_config_path)"
        )

    async def main(reactor: Any) -> ResultT:
        use_monotonic_time(reactor)
        async with await LockClient.connect(cluster, topic.topic_id, tls, reactor=reactor) as client:
            return await work(client)

    return edge.run(main)


# ---- looking -----------------------------------------------------------------------------------


@locks.command("list", short_help="Show the locks that are held, or the strings.")
@click.argument("prefix", default="")
@click.option("--strings", "of_strings", is_flag=True, help="Strings instead of locks.")
@click.option("--json", "as_json", is_flag=True, help="One object per line, for programs.")
@cluster_command
def list_(settings: ClusterContext, prefix: str, of_strings: bool, as_json: bool) -> None:
    """Show the locks that are held and whose names begin with PREFIX."""

    async def work(client: LockClient) -> list[Any]:
        found = client.strings(prefix) if of_strings else client.locks(prefix)
        return sorted([entry async for entry in found], key=lambda entry: entry.key if of_strings else entry.name)

    found = _run(settings, work)
    if as_json:
        for entry in found:
            click.echo(json.dumps(string_document(entry) if of_strings else lock_document(entry)))
    elif found:
        click.echo("\n".join(_strings_table(found) if of_strings else _locks_table(found)))
    else:
        click.echo("there are no strings" if of_strings else "nobody holds a lock")


def _locks_table(states: Sequence[LockState]) -> list[str]:
    rows = [
        (state.name, state.client_id, state.token, _time(state.lease), _time(state.remaining), state.waiters)
        for state in states
    ]
    return table(("LOCK", "HOLDER", "TOKEN", "LEASE", "LEFT", "WAITING"), rows, left=2, indent=0)


def _strings_table(values: Sequence[StringValue]) -> list[str]:
    rows = [(value.key, value.version, _time(value.lease), _time(value.remaining)) for value in values]
    return table(("STRING", "VERSION", "LEASE", "LEFT"), rows, indent=0)


def _time(seconds: float | None) -> str:
    return "no end" if seconds is None else age(seconds)


def lock_document(state: LockState) -> dict[str, Any]:
    """A lock as plain values, ready for JSON."""
    return {
        "name": state.name,
        "client_id": state.client_id,
        "token": state.token,
        "lease_s": state.lease,
        "remaining_s": state.remaining,
        "waiters": state.waiters,
    }


def string_document(value: StringValue) -> dict[str, Any]:
    """A string without its value, ready for JSON."""
    return {"key": value.key, "version": value.version, "lease_s": value.lease, "remaining_s": value.remaining}


@locks.command(short_help="Show who holds a lock.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@cluster_command
def show(settings: ClusterContext, name: str, as_json: bool) -> None:
    """Show who holds lock NAME. Exit status 1 when nobody does."""

    async def work(client: LockClient) -> LockState | None:
        return await client.lock_state(name)

    state = _run(settings, work)
    if state is None:
        click.echo("null" if as_json else f"nobody holds lock {name}")
        raise click.exceptions.Exit(1)
    if as_json:
        click.echo(json.dumps(lock_document(state)))
        return
    click.echo(f"lock {state.name} is held by {state.client_id}")
    click.echo(f"  token    {state.token}")
    click.echo(
        f"  lease    {_time(state.lease)}" + ("" if state.remaining is None else f", {age(state.remaining)} left")
    )
    click.echo(f"  waiting  {state.waiters}")


# ---- holding -----------------------------------------------------------------------------------


@locks.command(short_help="Run a command under a lock.", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_lease_option
@click.option("--wait", type=click.FloatRange(0), help="Seconds to wait for the lock [default: until it comes].")
@click.option(
    "--grace", default=5.0, show_default=True, type=click.FloatRange(0, 3600),
    help="Seconds the command has between SIGTERM and SIGKILL when the lock is lost.",
)  # fmt: skip
@cluster_command
def acquire(
    settings: ClusterContext, name: str, command: tuple[str, ...], lease: float, wait: float | None, grace: float
) -> None:
    """Wait for lock NAME, run COMMAND while it is held, then release it.

    Write `--` before COMMAND. Its exit status is ours. It finds the fencing token in $PHXQUEUE_LOCK_TOKEN and the
    lock's name in $PHXQUEUE_LOCK_NAME. When the lock is lost, the command is ended with everything it has started:
    SIGTERM, then SIGKILL.

    Exit status 75: others held the lock for all of --wait; 76: it was lost while the command ran.
    """
    from phxqueue.lock.client import LockTimeout

    async def work(client: LockClient) -> int:
        try:
            held = await client.acquire(name, lease, wait, on_refusal=_WhyWeWait(name))
        except LockTimeout as error:
            click.echo(f"phxqueue: {error}", err=True)
            return NOT_ACQUIRED
        return await _run_under(held, command, grace)

    status = _run(settings, work)
    if status:
        raise click.exceptions.Exit(status)


class _WhyWeWait:
    """Says what keeps the lock service from granting a lock: at once, then every now and then while it lasts."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._again_at = 0.0

    def __call__(self, reason: str) -> None:
        now = time.monotonic()
        if now >= self._again_at:
            self._again_at = now + _SAY_AGAIN_S
            click.echo(f"phxqueue: waiting for lock {self._name}; the lock service says: {reason}", err=True)


async def _run_under(held: Held, command: Sequence[str], grace_s: float) -> int:
    """Run a command while a lock is held; returns the exit status."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    from phxqueue.admin.locked_command import LockedCommand
    from phxqueue.lock.client import LockError, LockLost

    environment = {NAME_VARIABLE: held.name, TOKEN_VARIABLE: str(held.token)}
    running = LockedCommand(reactor, command, environment, own_group=not sys.stdin.isatty())
    over: Deferred[None] = Deferred()

    def tell(_: object) -> None:
        if not over.called:
            over.callback(None)

    running.start()
    held.lost.addCallback(tell)
    running.ended().addCallback(tell)
    try:
        await over
    finally:
        # Interrupted, we are given only so long before we are ended ourselves.
        await running.end(min(grace_s, edge.CLEANUP_TIMEOUT_S - 1) if held.valid else grace_s)
    assert running.exit_status is not None
    try:
        await held.release()
    except LockLost as error:
        click.echo(f"phxqueue: {error}", err=True)
        return LOST
    except LockError as error:
        click.echo(f"phxqueue: the command has ended, but its lock could not be released: {error}", err=True)
    return running.exit_status


@locks.command(short_help="Release a lock that somebody else holds.")
@click.argument("name")
@click.option("--token", type=click.IntRange(1), help="Only if the lock has this fencing token.")
@click.option("--force", is_flag=True, help="Whoever holds it.")
@cluster_command
def release(settings: ClusterContext, name: str, token: int | None, force: bool) -> None:
    """Release lock NAME, whoever holds it. Its holder learns that at his next renewal.

    Say which acquisition is meant with --token (`phxqueue locks show`), or --force for whichever it is.
    """
    if (token is None) != force:
        raise click.UsageError("say which acquisition is meant: either --token TOKEN or --force")

    async def work(client: LockClient) -> tuple[LockState | None, bool]:
        state = await client.lock_state(name)
        if state is None or (token is not None and token != state.token):
            return state, False
        return state, await client.break_lock(name, state.client_id, state.token)

    state, released = _run(settings, work)
    if state is None:
        raise AdminError(f"nobody holds lock {name}")
    if not released:
        raise AdminError(f"lock {name} has another token by now: it is {state.token}, held by {state.client_id}")
    click.echo(f"lock {name} (token {state.token}) was taken from {state.client_id}")


# ---- strings -----------------------------------------------------------------------------------


@locks.command(short_help="Print a string.")
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="With version and lease, for programs.")
@click.option("--version", "only_version", is_flag=True, help="Print its version instead.")
@cluster_command
def get(settings: ClusterContext, key: str, as_json: bool, only_version: bool) -> None:
    """Print the string KEY, as it is. Exit status 1 when there is none."""

    async def work(client: LockClient) -> StringValue | None:
        return await client.get(key)

    value = _run(settings, work)
    if as_json:
        document = None if value is None else {**string_document(value), "value": readable(value.value)}
        click.echo(json.dumps(document))
    elif only_version:
        click.echo(0 if value is None else value.version)
    elif value is not None:
        output = sys.stdout.buffer
        output.write(value.value)
        if output.isatty() and not value.value.endswith(b"\n"):
            output.write(b"\n")
        output.flush()
    else:
        click.echo(f"there is no string {key}", err=True)
    if value is None:
        raise click.exceptions.Exit(1)


@locks.command("set", short_help="Write a string.")
@click.argument("key")
@click.argument("value")
@click.option("--expect", type=click.IntRange(0), help="Only if it has this version; 0: only if there is none.")
@click.option("--lease", type=click.FloatRange(0.1), help="Seconds after which it is gone [default: it stays].")
@cluster_command
def set_(settings: ClusterContext, key: str, value: str, expect: int | None, lease: float | None) -> None:
    """Write VALUE (`-`: what comes from stdin) as string KEY, and print its new version."""
    content = sys.stdin.buffer.read() if value == "-" else value.encode(errors="surrogateescape")

    async def work(client: LockClient) -> int:
        return await client.set(key, content, expected_version=expect, lease=lease)

    click.echo(_run(settings, work))


@locks.command(short_help="Remove a string.")
@click.argument("key")
@click.option("--expect", type=click.IntRange(1), help="Only if it has this version.")
@cluster_command
def delete(settings: ClusterContext, key: str, expect: int | None) -> None:
    """Remove string KEY. Exit status 1 when there is none."""

    async def work(client: LockClient) -> bool:
        return await client.delete(key, expected_version=expect)

    if not _run(settings, work):
        click.echo(f"there is no string {key}", err=True)
        raise click.exceptions.Exit(1)
