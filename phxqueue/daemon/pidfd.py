"""Hear of the end of a process by its pidfd: also without SIGCHLD, and also of one that is not our child."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer


@implementer(IReadDescriptor)
class _PidWatch:
    """A pidfd in the reactor: readable once its process has ended."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self._close())
        self._reactor = reactor
        self._descriptor = descriptor
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "pidfd"

    def doRead(self) -> None:
        self._close()
        self.done.callback(None)

    def connectionLost(self, reason: Any) -> None:
        """The reactor is shutting down."""
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = -1


def when_ended(reactor: Any, pid: int) -> Deferred[None]:
    """Fires when a process has ended (at once if it has). Cancel it to stop watching."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        ended: Deferred[None] = Deferred()
        ended.callback(None)
        return ended
    return _PidWatch(reactor, descriptor).done
