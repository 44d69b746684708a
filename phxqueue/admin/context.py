"""Which cluster and topic a command is about, from the options that all commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from phxqueue.admin.errors import AdminError

if TYPE_CHECKING:
    from phxqueue.config import Cluster, TlsPaths, Topic

CONFIG_VARIABLE = "PHXQUEUE_CONFIG"
DEFAULT_CONFIG = Path("etc/globalconfig.conf")

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


@dataclass
class ClusterContext:
    """The cluster's file, the topic and the certificates to use; loads them when a command asks."""

    config: Path = DEFAULT_CONFIG
    topic_name: str | None = None
    tls_paths: tuple[Path, Path, Path] | None = None
    debug: bool = False

    def merge(
        self, config: Path | None = None, topic: str | None = None, tls: tuple[Path, Path, Path] | None = None
    ) -> None:
        """Take over the options that were given; those after the command win over those before it."""
        self.config = config or self.config
        self.topic_name = topic or self.topic_name
        self.tls_paths = tls or self.tls_paths

    def load(self) -> Cluster:
        """Read the cluster's files.

        Raises:
            ConfigError: with every problem found.
            AdminError: when the file is not there.
        """
        from phxqueue.config import load_cluster

        if not self.config.exists():
            raise AdminError(
                f"{self.config} does not exist: go to the directory that has it, or name the cluster's file with "
                f"-c or ${CONFIG_VARIABLE}"
            )
        return load_cluster(self.config)

    def topic_of(self, cluster: Cluster) -> Topic:
        """Return the topic asked for, or the only one there is.

        Raises:
            ConfigError: no such topic.
            AdminError: there are several and none was named.
        """
        if self.topic_name is not None:
            name = self.topic_name
            return cluster.topic(int(name) if name.isdecimal() else name)
        if len(cluster.topics) == 1:
            return cluster.topics[0]
        names = ", ".join(topic.topic_name for topic in cluster.topics)
        raise AdminError(f"{self.config} has several topics ({names}): say which with --topic")

    def tls_of(self, cluster: Cluster) -> TlsPaths | None:
        """Return the certificates to show and to trust; None: TLS is off.

        The ones given; else the operator's of the cluster, where this user can read it; else the client's.
        """
        from phxqueue.admin.certificates import operator_tls
        from phxqueue.config import TlsPaths

        return operator_tls(cluster) if self.tls_paths is None else TlsPaths(*self.tls_paths)


def cluster_options(function: FunctionT, envvar: str | None = CONFIG_VARIABLE) -> FunctionT:
    """Add the options that say which cluster, without defaults: so that given ones can be told from absent ones."""
    path = click.Path(path_type=Path)
    for option in (
        click.option(
            "--tls",
            nargs=3,
            type=path,
            metavar="CA CERT KEY",
            help="PEM files to use instead of the cluster's admin.pem (or client.pem, without it).",
        ),
        click.option("--topic", metavar="NAME", help="The topic, when the cluster has several."),
        click.option(
            "-c",
            "--config",
            type=path,
            envvar=envvar,
            metavar="FILE",
            help=f"The cluster's file [${CONFIG_VARIABLE}, or {DEFAULT_CONFIG}].",
        ),
    ):
        function = option(function)
    return function


def cluster_command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the shared options too, and the merged :class:`ClusterContext` as its first argument."""

    @click.pass_obj
    @wraps(function)
    def command(settings: ClusterContext, /, *args: Any, **kwargs: Any) -> Any:
        settings.merge(kwargs.pop("config"), kwargs.pop("topic"), kwargs.pop("tls"))
        return function(settings, *args, **kwargs)

    # The environment is read once, before the command: there it must not win over an explicit option.
    return cluster_options(command, envvar=None)
