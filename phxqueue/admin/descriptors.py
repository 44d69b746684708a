"""Reads stdin and writes stdout by readiness: a slow terminal or pipe never stalls the connections to the cluster.

Neither is switched to non-blocking mode, which would change it for the shell and everybody else who shares it: a
read after "readable" and a small write after "writable" do not block.
"""

from __future__ import annotations

import os
import stat
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

READ_BYTES = 256 * 1024
#: A pipe that is writable takes so much without blocking (PIPE_BUF of Linux).
SAFE_WRITE_BYTES = 4096


def _is_file(descriptor: int) -> bool:
    """A regular file is always ready, and epoll does not take it."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


class _Ready:
    """Waits for one readiness event of a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.waiting: Deferred[None] | None = None

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return type(self).__name__

    def fire(self) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.callback(None)

    def connectionLost(self, reason: Failure) -> None:
        """A hang-up: the next read or write says what it is."""
        self.stop()
        self.fire()

    def stop(self) -> None:
        """Leave the reactor."""


@implementer(IReadDescriptor)
class DescriptorReader(_Ready):
    """Reads a descriptor as bytes come."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        super().__init__(descriptor)
        self._reactor = reactor
        self._file = _is_file(descriptor)

    async def read(self, size: int = READ_BYTES) -> bytes:
        """Return the next bytes, at most `size`; empty at the end."""
        if not self._file:
            self.waiting = Deferred(lambda _: self.stop())
            self._reactor.addReader(self)
            await self.waiting
        return os.read(self._descriptor, size)

    def doRead(self) -> None:
        self.stop()
        self.fire()

    def stop(self) -> None:
        self._reactor.removeReader(self)


@implementer(IWriteDescriptor)
class DescriptorWriter(_Ready):
    """Writes to a descriptor as fast as it is read at the other end."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        super().__init__(descriptor)
        self._reactor = reactor
        self._file = _is_file(descriptor)

    async def write(self, data: bytes) -> None:
        """Write everything; nothing is held back here.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        view = memoryview(data)
        while view:
            if self._file:
                view = view[os.write(self._descriptor, view) :]
                continue
            self.waiting = Deferred(lambda _: self.stop())
            self._reactor.addWriter(self)
            await self.waiting
            view = view[os.write(self._descriptor, view[:SAFE_WRITE_BYTES]) :]

    def doWrite(self) -> None:
        self.stop()
        self.fire()

    def stop(self) -> None:
        self._reactor.removeWriter(self)


@implementer(IReadDescriptor)
class HangUpWatch(_Ready):
    """Notices that the other end of an output pipe was closed, while nothing is being written."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        # A descriptor of its own for the same pipe: the reactor knows one object per descriptor, and a writer may
        # come and go on the original.
        super().__init__(os.dup(descriptor))
        self._reactor = reactor

    def when_hung_up(self) -> Deferred[None]:
        """Fires once nobody reads; never for anything but a pipe. Cancel it to stop watching."""
        self.waiting = Deferred(lambda _: self.stop())
        if stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
            self._reactor.addReader(self)
        return self.waiting

    def doRead(self) -> None:
        """The write end of a pipe is never readable; only its hang-up wakes us."""
        self.stop()
        self.fire()

    def stop(self) -> None:
        if self._descriptor >= 0:
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = -1
