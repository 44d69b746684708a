"""Runs one role as a Twisted service: start, say ready, reload on SIGHUP, drain on SIGTERM, end loudly on failure."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.console.console import Console
from phxqueue.daemon.readiness import notify
from phxqueue.net.clock import use_monotonic_time
from phxqueue.net.endpoints import ListenError
from phxqueue.net.tls import TlsError


class ExpectedFailure(Exception):
    """A reason to stop that is not a defect of the program: its text says what to do, a traceback would not help."""


class Role(Protocol):
    """One role of one node. `name` is for people: "store 1 node 0"."""

    name: str

    @property
    def console(self) -> Console | None:
        """Through which it is observed; None: it is not."""

    async def start(self, fail: Callable[[str], None]) -> None:
        """Come up completely: when this returns, the role serves. `fail(reason)` may be called any time later."""

    async def stop(self) -> None:
        """Finish what can be finished, then let go of everything. Called also after a start that failed half-way."""

    def reload(self) -> None:
        """Read certificates (and whatever else may change at run time) again."""


class RoleService(Service):
    """The Twisted service around a role."""

    def __init__(self, role: Role, reactor: Any) -> None:
        self.role = role
        self.setName(role.name)  # type: ignore[no-untyped-call]
        self.exit_status = 0
        self.started: Deferred[None] = Deferred()
        self._reactor = reactor
        self._starting: Deferred[None] | None = None
        self._stopping = False
        self._log = Logger(namespace="phxqueue.daemon")

    def startService(self) -> None:
        """Start the role; readiness is announced when it serves."""
        super().startService()  # type: ignore[no-untyped-call]
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addCallbacks(self._ready, self._start_failed)

    async def _start(self) -> None:
        """The admin port comes first: whoever asks is told that the role is on its way."""
        if self.role.console is not None:
            try:
                self.role.console.open()
            except (ListenError, TlsError) as error:
                raise ExpectedFailure(str(error)) from error
        await self.role.start(self.fail)

    async def _stop_role(self) -> None:
        try:
            await self.role.stop()
        finally:
            if self.role.console is not None:
                await self.role.console.close()

    def reload(self) -> None:
        """Read certificates and configuration again; raises what is wrong with them."""
        self.role.reload()
        if self.role.console is not None:
            self.role.console.reload()

    def stopService(self) -> Deferred[None]:
        """Drain the role; fires when it has let go of everything."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self.role.console is not None:
            self.role.console.stopping()
        notify({"STOPPING": "1", **self._identity()})
        self._log.info("{name}: stopping", name=self.role.name)
        self._stopping = True
        if self._starting is not None and not self._starting.called:
            self._starting.cancel()  # else it would go on, with what the role lets go of now
        stopping = Deferred.fromCoroutine(self._stop_role())
        stopping.addErrback(self._stop_failed)
        return stopping

    def fail(self, reason: str) -> None:
        """End the process with a non-zero status; `reason` says what happened and what to do."""
        if self.exit_status:
            return
        self.exit_status = 1
        self._log.critical("{name}: {reason}", name=self.role.name, reason=reason)
        if self.role.console is not None:
            self.role.console.failed(reason)
        notify({"STATUS": reason, "ERRNO": "1", **self._identity()})
        _exit_with_status(reason)
        self._reactor.callWhenRunning(_stop, self._reactor)

    def _ready(self, _: None) -> None:
        # Who is told that it serves may stop it; before the reactor runs SIGTERM would just end the process.
        self._reactor.callWhenRunning(self._announce)

    def _announce(self) -> None:
        if self._stopping or self.exit_status:
            return
        self._log.info("{name}: ready", name=self.role.name)
        notify({"READY": "1", "STATUS": "serving", **self._identity()})
        if self.role.console is not None:
            self.role.console.ready()
        self.started.callback(None)

    def _start_failed(self, failure: Failure) -> None:
        if self._stopping and failure.check(CancelledError) is not None:
            self._log.info("{name}: was told to stop before it served", name=self.role.name)
            return
        if failure.check(ExpectedFailure) is None:
            self._log.failure("{name} failed to start", failure, name=self.role.name)
        self.fail(failure.getErrorMessage())

    def _stop_failed(self, failure: Failure) -> None:
        self._log.failure("{name} failed to stop cleanly", failure, name=self.role.name)
        self.exit_status = 1
        _exit_with_status(failure.getErrorMessage())

    def _identity(self) -> dict[str, str]:
        return {"MAINPID": str(os.getpid()), "X_PHXQUEUE_NAME": self.role.name}


def prepare_process(reactor: Any, services: list[RoleService]) -> None:
    """Make this process fit for its roles; to be called before anything starts.

    - The reactor follows the monotonic clock: Twisted's own is the wall clock, and leases and deadlines must not move
      when somebody sets that.
    - SIGHUP reloads every role; a reload that fails is logged and the old state stays in use.
    """
    use_monotonic_time(reactor)
    log = Logger(namespace="phxqueue.daemon")

    def reload_all() -> None:
        for service in services:
            try:
                service.reload()
            except Exception:
                log.failure("{name}: reload failed, the previous state stays in use", name=service.role.name)
            else:
                log.info("{name}: reloaded", name=service.role.name)

    signal.signal(signal.SIGHUP, lambda signum, frame: reactor.callFromThread(reload_all))


def process_of(role: Role, reactor: Any) -> MultiService:
    """The Twisted service of a process that is one role: what a twistd plugin's ``makeService`` returns."""
    service = RoleService(role, reactor)
    prepare_process(reactor, [service])
    parent = MultiService()
    service.setServiceParent(parent)  # type: ignore[no-untyped-call]
    return parent


def _stop(reactor: Any) -> None:
    """Stop the reactor; several roles of one process may ask for it."""
    with suppress(ReactorNotRunning):
        reactor.stop()


_exit_registered = False


def _exit_with_status(reason: str) -> None:
    """Make the process exit with status 1 once the reactor has stopped: twistd itself always exits with 0."""
    global _exit_registered
    if _exit_registered:
        return
    _exit_registered = True

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    atexit.register(leave)
