"""The command line that every role's twistd plugin has: one option, ``-c``, naming the node's file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from twisted.python import usage

from phxqueue.config import ConfigError
from phxqueue.config.settings import LogSettings
from phxqueue.daemon import logs


class NodeOptions(usage.Options):
    """Reads the node's file while the command line is parsed, so that a mistake ends twistd before it forks.

    Subclasses set ``role`` and implement ``load``.
    """

    role = "node"
    optParameters: ClassVar = [["config", "c", None, "The node's configuration file, for example etc/store.conf"]]

    def load(self, path: Path) -> Any:
        """Return the validated configuration of the node; raises ConfigError."""
        raise NotImplementedError

    def log_settings(self, node: Any) -> LogSettings:
        """Return where and how the node logs."""
        settings: LogSettings = node.log
        return settings

    def postOptions(self) -> None:
        """Load the file; on any problem print all of them and exit with status 1."""
        if not self["config"]:
            self._refuse("say which node this is: -c etc/NODE.conf")
        try:
            self.node = self.load(Path(self["config"]))
        except ConfigError as error:
            self._refuse(str(error))
        settings = self.log_settings(self.node)
        if self.parent is not None and not self.parent.get("logger"):
            self.parent["logger"] = logs.configure(settings.level, settings.format, self.parent)

    def _refuse(self, reason: str) -> NoReturn:
        # twistd would print its whole usage text and exit with status 0.
        sys.exit(f"phxqueue-{self.role}: {reason}")
