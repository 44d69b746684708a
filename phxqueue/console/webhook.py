"""Posts alarms to a URL as JSON: at once when all is quiet, together when many come, never without bound.

What waits is one notice for each alarm, the newest; a post takes up to `webhook_alarms` of them and says how many more
there are. A post that fails is tried again after a growing pause, `webhook_attempts` times; then it is given up,
counted and logged. Nobody waits for any of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from io import BytesIO
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, FileBodyProducer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from phxqueue.config.admin_settings import AdminSettings
from phxqueue.console.alarms import Standing
from phxqueue.console.desk import document

Post = Callable[[bytes], Deferred[None]]
"""post(body): fires when it was taken; fails with whatever went wrong."""


class PostRefused(Exception):
    """The other side answered, and not with success."""


class Webhook:
    """The posts of one process.

    Args:
        node: who we are, for the reader of a post.
        settings: bounds.
        clock: the reactor.
        post: makes one attempt; it is cancelled after `webhook_timeout_s`.

    Attributes:
        posted, failed: alarms that were told, and those whose posts were given up.
    """

    log = Logger(namespace="phxqueue.webhook")

    def __init__(self, node: str, settings: AdminSettings, clock: Any, post: Post) -> None:
        self.posted = 0
        self.failed = 0
        self._node = node
        self._settings = settings
        self._clock = clock
        self._post = post
        self._waiting: dict[int, dict[str, object]] = {}  # by number of the alarm
        self._soon: IDelayedCall | None = None
        self._sending: Deferred[None] | None = None
        self._next = -math.inf  # no post before
        self._closed = False

    def tell(self, state: str, standing: Standing) -> None:
        """An alarm has changed; see desk.Tell."""
        if self._closed:
            return
        notice = document(standing, state)
        earlier = self._waiting.pop(standing.number, None)
        if earlier is not None and earlier["state"] == "raised" and state == "again":
            notice["state"] = "raised"
        self._waiting[standing.number] = notice
        while len(self._waiting) > self._settings.max_alarms:
            self._waiting.pop(next(iter(self._waiting)))
            self.failed += 1
        self._send_soon()

    def close(self) -> None:
        """Stop, whatever waits."""
        self._closed = True
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        if self._sending is not None:
            self._sending.cancel()

    def _send_soon(self) -> None:
        if self._soon is None and self._sending is None and self._waiting and not self._closed:
            self._soon = self._clock.callLater(max(self._next - self._clock.seconds(), 0.0), self._send)

    def _send(self) -> None:
        self._soon = None
        self._next = self._clock.seconds() + self._settings.webhook_interval_s
        numbers = list(self._waiting)[: self._settings.webhook_alarms]
        notices = [self._waiting.pop(number) for number in numbers]
        body = json.dumps({"node": self._node, "alarms": notices, "more": len(self._waiting)}, default=str).encode()
        self._sending = Deferred.fromCoroutine(self._deliver(body, len(notices)))
        self._sending.addErrback(self._broken).addCallback(self._sent)

    async def _deliver(self, body: bytes, alarms: int) -> None:
        settings = self._settings
        pause, problem = settings.webhook_backoff_s, ""
        for attempt in range(1, settings.webhook_attempts + 1):
            try:
                await self._post(body).addTimeout(settings.webhook_timeout_s, self._clock)
            except CancelledError:
                raise
            except Exception as error:
                problem = str(error) or type(error).__name__
            else:
                self.posted += alarms
                return
            if attempt < settings.webhook_attempts:
                await deferLater(self._clock, pause, lambda: None)
                pause = min(2 * pause, settings.webhook_backoff_max_s)
        self.failed += alarms
        self.log.warn(
            "{alarms} alarms could not be posted to {url} in {attempts} attempts: {problem}; "
            "`phxqueue alarms` shows those that stand",
            alarms=alarms, url=settings.webhook_url, attempts=settings.webhook_attempts, problem=problem,
        )  # fmt: skip

    def _broken(self, failure: Any) -> None:
        if failure.check(CancelledError) is None:
            self.log.failure("posting alarms failed unexpectedly", failure)

    def _sent(self, _: None) -> None:
        self._sending = None
        self._send_soon()


class _Unread(Protocol):
    """The body of an answer that nobody reads."""

    def connectionMade(self) -> None:
        self.transport.loseConnection()  # type: ignore[union-attr]


def http_post(reactor: Any, url: str, connect_timeout_s: float) -> Post:
    """Posts by HTTP; https with the system's certificate authorities."""
    agent = Agent(reactor, BrowserLikePolicyForHTTPS(), connectTimeout=connect_timeout_s)
    headers = Headers({"Content-Type": ["application/json"], "User-Agent": ["phxqueue"]})

    def taken(response: IResponse) -> None:
        response.deliverBody(_Unread())
        if not 200 <= response.code < 300:
            raise PostRefused(f"it answered {response.code} {response.phrase.decode('latin-1')}")

    def post(body: bytes) -> Deferred[None]:
        sent: Deferred[Any] = agent.request(b"POST", url.encode("ascii"), headers, FileBodyProducer(BytesIO(body)))
        return sent.addCallback(taken)

    return post
