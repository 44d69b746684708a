"""Everything through which one process of one role is observed, put together from its configuration."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import Metric
from twisted.logger import Logger

from phxqueue.config.admin_settings import AdminSettings
from phxqueue.config.certificates import TlsPaths
from phxqueue.console.alarms import Alarms
from phxqueue.console.condition_watch import ConditionWatch
from phxqueue.console.desk import AlarmDesk
from phxqueue.console.events import EventRing
from phxqueue.console.port import AdminPort
from phxqueue.console.process_families import process_families
from phxqueue.console.site import pages
from phxqueue.console.webhook import Webhook, http_post
from phxqueue.net.address import Address


class Console:
    """A role's window: the role tells it what happens, people and Prometheus look through it.

    Args:
        name: of the role: "store 1 node 0".
        settings: `admin:` of the node's file.
        tls: the node's certificates; None: TLS is off.
        reactor: the reactor.

    Attributes:
        collectors: each returns metrics when they are asked for.
        desk: where alarms are raised.
        watch: what is looked at every few seconds, to raise alarms about.
        alarms, events: what there is of them.
    """

    log = Logger(namespace="phxqueue.console")

    def __init__(
        self,
        name: str,
        settings: AdminSettings,
        tls: TlsPaths | None,
        reactor: Any,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.collectors: list[Callable[[], Iterable[Metric]]] = []
        self.events = EventRing(settings.recent_events)
        self.alarms = Alarms(most=settings.max_alarms, repeat_s=settings.alarm_repeat_s, hold_s=settings.alarm_hold_s)
        self._settings = settings
        self._tls = tls
        self._reactor = reactor
        self._wall = wall
        self._port: AdminPort | None = None
        self._unready = "it is starting"
        self._failure = ""
        self._process = ProcessCollector(registry=None)
        self._webhook: Webhook | None = None
        if settings.webhook_url:
            post = http_post(reactor, settings.webhook_url, settings.webhook_timeout_s)
            self._webhook = Webhook(name, settings, reactor, post)
        self.desk = AlarmDesk(
            self.alarms, self.events, reactor.seconds, wall, () if self._webhook is None else (self._webhook.tell,)
        )
        self.watch = ConditionWatch(reactor, self.desk)

    @property
    def url(self) -> str:
        """Of the admin port; "": there is none."""
        return "" if self._port is None else self._port.url

    # ---- what the process tells ----------------------------------------------------------------------

    def open(self) -> None:
        """Open the port, if there is to be one, and begin to watch. Raises ListenError, TlsError."""
        self.watch.start()
        settings = self._settings
        if not settings.port:
            return
        self._port = AdminPort(
            self._reactor,
            self.name,
            Address(settings.ip, settings.port),
            pages(self),
            self._tls,
            max_connections=settings.max_connections,
            idle_timeout_s=settings.idle_timeout_s,
        )
        self.log.info("{name} is observed at {url}", name=self.name, url=self._port.url)

    def ready(self) -> None:
        """The role serves."""
        self._unready = ""
        self.event("ready", "it serves")

    def stopping(self) -> None:
        """The role is being stopped: nobody should come here any more."""
        self._unready = "it is stopping"
        self.event("stopping", "it was told to stop")

    def failed(self, reason: str) -> None:
        """The role cannot go on."""
        self._failure = self._unready = reason
        self.event("failed", reason)

    def reload(self) -> None:
        """Read certificates again; raises TlsError."""
        if self._port is not None:
            self._port.reload()
        self.event("reloaded", "configuration and certificates were read again")

    def event(self, kind: str, message: str, **facts: object) -> None:
        """Something happened."""
        self.events.add(self._wall(), kind, message, facts)

    async def close(self) -> None:
        """Let go of the port and of what the webhook has not posted."""
        self.watch.stop()
        if self._webhook is not None:
            self._webhook.close()
        if self._port is not None:
            await self._port.close()

    # ---- what the pages ask ------------------------------------------------------------------------------

    def families(self) -> Iterable[Metric]:
        """The metrics at this moment."""
        self.desk.look()
        yield from self._process.collect()
        yield from process_families(self.name, not self._unready, self.alarms, self._webhook)
        for collect in self.collectors:
            yield from collect()

    def unhealthy(self) -> str:
        """Why the process should be ended, or ""."""
        return self._failure

    def unready(self) -> str:
        """Why nobody should come here, or ""."""
        return self._unready
