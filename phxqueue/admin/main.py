"""The console script ``phxqueue``: global options, the table of commands, and how failures are told."""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from typing import Any

import click

import phxqueue
from phxqueue.admin.context import ClusterContext, cluster_options
from phxqueue.admin.errors import is_explained, sentence

#: command -> (module, its click object, the line in --help). Modules are imported when they are used.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "alarms": ("phxqueue.admin.alarms", "alarms", "Show and clear the alarms of the nodes."),
    "backup": ("phxqueue.admin.backup.commands", "backup", "Copy a running store, and verify copies."),
    "bench": ("phxqueue.admin.bench", "bench", "Measure what the cluster takes and delivers."),
    "certs": ("phxqueue.admin.certs", "certs", "Make, renew and show the certificates of a cluster."),
    "config": ("phxqueue.admin.config", "config", "Check configuration files."),
    "consume": ("phxqueue.admin.consume", "consume", "Print the messages of a consumer group."),
    "delayed": ("phxqueue.admin.delayed", "delayed", "List and cancel messages that wait for their time."),
    "demo": ("phxqueue.admin.demo", "demo", "Start and stop a whole cluster on this machine."),
    "dlq": ("phxqueue.admin.dlq.commands", "dlq", "List, show, requeue and purge dead letters."),
    "echo": ("phxqueue.admin.echo", "echo", "Send one message, to see that everything works."),
    "halves": ("phxqueue.admin.halves", "halves", "List, show and decide half messages."),
    "locks": ("phxqueue.admin.locks", "locks", "Run commands under locks, look at locks and strings."),
    "members": ("phxqueue.admin.members", "members", "Show and change the nodes of a store or lock group."),
    "masters": ("phxqueue.admin.masters", "masters", "Show and move the masters of Paxos groups."),
    "lag": ("phxqueue.admin.lag", "lag", "Show how far behind consumer groups are, and until when."),
    "limits": ("phxqueue.admin.limits", "limits", "Show and change speed limits of consumers."),
    "pause": ("phxqueue.admin.limits", "pause", "Have a consumer group handle nothing of a pub for now."),
    "peek": ("phxqueue.admin.peek", "peek", "Look at items of a queue, moving nothing."),
    "produce": ("phxqueue.admin.produce", "produce", "Enqueue what comes from stdin or a file."),
    "reconcile": ("phxqueue.admin.reconcile", "reconcile", "Show whether what went in came out."),
    "replay": ("phxqueue.admin.replays", "replay", "Have a consumer group read again what it was done with."),
    "groups": ("phxqueue.admin.groups", "groups", "Show, create and delete consumer groups at run time."),
    "restore": ("phxqueue.admin.backup.commands", "restore", "Make the nodes of a store from a backup."),
    "resume": ("phxqueue.admin.limits", "resume", "Have a paused consumer group go on with a pub."),
    "status": ("phxqueue.admin.status", "status", "Show nodes, masters, replicas and backlogs."),
}


class CommandTable(click.Group):
    """A group whose commands are imported one by one, and whose failures are sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in sorted(COMMANDS.items())])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return self._invoke(ctx)
        except KeyboardInterrupt:  # where no reactor ran: click would say "Aborted!", with status 1
            click.echo("interrupted", err=True)
            raise click.exceptions.Exit(128 + signal.SIGINT) from None

    def _invoke(self, ctx: click.Context) -> Any:
        from phxqueue.admin.edge import Interrupted

        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # Whoever read our output has gone: nothing to say, and nobody to say it to.
            _drop_output()
            raise click.exceptions.Exit(1) from None
        except Interrupted as interruption:
            click.echo("interrupted", err=True)
            raise click.exceptions.Exit(interruption.exit_status) from None
        except Exception as error:
            _tell(ctx, error)
            raise click.exceptions.Exit(1) from None


def _tell(ctx: click.Context, error: Exception) -> None:
    settings = ctx.find_object(ClusterContext)
    if settings is not None and settings.debug:
        traceback.print_exc()
    if is_explained(error):
        click.echo(f"phxqueue: {sentence(error)}", err=True)
        return
    click.echo(
        f"phxqueue: this should not have happened ({type(error).__name__}: {sentence(error)}); "
        "`phxqueue --debug ...` prints where, please report it",
        err=True,
    )


def _drop_output() -> None:
    """Keep the interpreter from complaining, on its way out, about output that it cannot flush."""
    import os

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@click.group(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"]})
@cluster_options
@click.option("--debug", is_flag=True, help="Print a traceback with every error.")
@click.version_option(phxqueue.__version__, prog_name="phxqueue")
@click.pass_context
def main(ctx: click.Context, /, debug: bool, **cluster: Any) -> None:
    """A replicated, strictly durable queue.

    Start with `make demo`, or `twistd -n phxqueue-dev`, then `phxqueue echo` and `phxqueue status`.
    The options below may also be given after the command.
    """
    ctx.obj = ClusterContext(debug=debug)
    ctx.obj.merge(**cluster)


if __name__ == "__main__":
    main()
