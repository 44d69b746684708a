"""The pages of the admin port: metrics, health, readiness, recent events, alarms. Read only."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from twisted.logger import Logger
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import Request

from phxqueue.console.alarms import Alarms
from phxqueue.console.desk import document
from phxqueue.console.events import EventRing

#: More lines than this are not written into one answer; the reader goes on with `after`.
MOST_LINES = 10_000


class Observed(Protocol):
    """What the pages show."""

    name: str
    events: EventRing
    alarms: Alarms

    def families(self) -> Iterable[Metric]:
        """The metrics at this moment."""

    def unhealthy(self) -> str:
        """Why the process should be ended, or ""."""

    def unready(self) -> str:
        """Why nobody should come here yet (or any more), or ""."""


class _AtScrape(Collector):
    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()


class _Page(Resource, ABC):
    """One page; `GET` and `HEAD` only."""

    isLeaf = True

    def __init__(self, observed: Observed) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._observed = observed

    def render(self, request: Request) -> bytes:
        """Twisted: a request came."""
        if request.method in (b"GET", b"HEAD"):
            return self.render_GET(request)
        request.setHeader("Allow", "GET, HEAD")
        return _answer(request, http.NOT_ALLOWED, "here is nothing to change: GET or HEAD\n")

    @abstractmethod
    def render_GET(self, request: Request) -> bytes:
        """The page."""


class MetricsPage(_Page):
    """`/metrics`, in whichever of Prometheus' text formats is asked for."""

    log = Logger(namespace="phxqueue.console")

    def __init__(self, observed: Observed) -> None:
        super().__init__(observed)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_AtScrape(observed.families))

    def render_GET(self, request: Request) -> bytes:
        accepted = request.requestHeaders.getRawHeaders("Accept") or []
        encode, content_type = choose_encoder(",".join(accepted))
        try:
            body = encode(self._registry)
        except Exception:
            self.log.failure("{name}: the metrics cannot be told", name=self._observed.name)
            return _answer(request, http.INTERNAL_SERVER_ERROR, "the metrics cannot be told: see the log of the node\n")
        request.setHeader("Content-Type", content_type)
        return body


class StatePage(_Page):
    """`/healthz` or `/readyz`: 200, or 503 with the reason."""

    def __init__(self, observed: Observed, problem: Callable[[], str]) -> None:
        super().__init__(observed)
        self._problem = problem

    def render_GET(self, request: Request) -> bytes:
        problem = self._problem()
        if problem:
            return _answer(request, http.SERVICE_UNAVAILABLE, f"{self._observed.name}: {problem}\n")
        return _answer(request, http.OK, "ok\n")


class EventsPage(_Page):
    """`/events?after=NUMBER&kind=KIND`: one JSON object a line, oldest first."""

    def render_GET(self, request: Request) -> bytes:
        after, kind = _argument(request, b"after"), _argument(request, b"kind")
        if after and not (after.isascii() and after.isdigit()):
            return _answer(request, http.BAD_REQUEST, "after: the number of an event is wanted\n")
        events = self._observed.events.since(int(after or "0"), kind)
        lines = [event.line(self._observed.name) for event, _ in zip(events, range(MOST_LINES), strict=False)]
        request.setHeader("Content-Type", "application/x-ndjson; charset=utf-8")
        return "".join(f"{line}\n" for line in lines).encode()


class AlarmsPage(_Page):
    """`/alarms`: the alarms that stand, as a JSON list."""

    def render_GET(self, request: Request) -> bytes:
        found = [document(standing) for standing in self._observed.alarms.standing.values()]
        request.setHeader("Content-Type", "application/json; charset=utf-8")
        return (json.dumps(found, indent=2, ensure_ascii=False, default=str) + "\n").encode()


class IndexPage(_Page):
    """`/`: who this is, and what there is."""

    def render_GET(self, request: Request) -> bytes:
        return _answer(request, http.OK, f"{self._observed.name}\n\n{_PAGES}")


class _Root(Resource):
    """Has the pages, and says what there is when another one is asked for."""

    def __init__(self, otherwise: Resource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._otherwise = otherwise

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self._otherwise


class NoPage(_Page):
    """There is no such page."""

    def render_GET(self, request: Request) -> bytes:
        return _answer(request, http.NOT_FOUND, f"there is no such page; these are there:\n\n{_PAGES}")


_PAGES = """\
/metrics   for Prometheus
/healthz   200 while the process should go on, else 503 and why
/readyz    200 when it serves, else 503 and why
/events    what happened lately, a JSON object a line; ?after=NUMBER, ?kind=KIND
/alarms    the alarms that stand, as JSON
"""


def pages(observed: Observed) -> Resource:
    """The root of the site."""
    root = _Root(NoPage(observed))
    root.putChild(b"", IndexPage(observed))
    root.putChild(b"metrics", MetricsPage(observed))
    root.putChild(b"healthz", StatePage(observed, observed.unhealthy))
    root.putChild(b"readyz", StatePage(observed, observed.unready))
    root.putChild(b"events", EventsPage(observed))
    root.putChild(b"alarms", AlarmsPage(observed))
    return root


def _argument(request: Request, name: bytes) -> str:
    values: list[bytes] = (request.args or {}).get(name, [b""])
    return values[0].decode("utf-8", "replace")


def _answer(request: Request, code: int, text: str) -> bytes:
    request.setResponseCode(code)
    request.setHeader("Content-Type", "text/plain; charset=utf-8")
    return text.encode()
