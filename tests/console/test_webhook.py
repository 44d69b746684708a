"""Alarms over HTTP: few posts for many alarms, bounded attempts, nobody waits."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import Site

from phxqueue.config.admin_settings import AdminSettings
from phxqueue.console.alarms import Alarms
from phxqueue.console.webhook import PostRefused, Webhook, http_post
from tests.console.test_alarms import alarm

SETTINGS = AdminSettings(
    webhook_url="http://pager/", webhook_alarms=10, webhook_attempts=3, webhook_backoff_s=1, webhook_interval_s=10
)


class Rig:
    def __init__(self, settings: AdminSettings = SETTINGS) -> None:
        self.clock = Clock()
        self.posts: list[tuple[dict[str, Any], Deferred[None]]] = []
        self.alarms = Alarms(most=1000, repeat_s=0, hold_s=600)
        self.webhook = Webhook("store 1 node 0", settings, self.clock, self.post)

    def post(self, body: bytes) -> Deferred[None]:
        taken: Deferred[None] = Deferred()
        self.posts.append((json.loads(body), taken))
        return taken

    def happens(self, queue: int, state: str = "raised") -> None:
        standing = self.alarms.raise_alarm(alarm(queue), self.clock.seconds(), 0)
        assert standing is not None
        self.webhook.tell(state, standing)


def test_the_first_does_not_wait_and_what_comes_meanwhile_travels_together() -> None:
    rig = Rig()
    rig.happens(1)
    rig.clock.advance(0)
    [(body, taken)] = rig.posts
    assert body["node"] == "store 1 node 0"
    assert [(one["name"], one["state"], one["cause"], one["remedy"]) for one in body["alarms"]] == [
        (alarm(1).name, "raised", "one was lost", "look")
    ]
    for queue in range(2, 1001):
        rig.happens(queue)
    taken.callback(None)
    rig.clock.advance(9)
    assert len(rig.posts) == 1
    rig.clock.advance(1)
    assert len(rig.posts) == 2
    assert (len(rig.posts[1][0]["alarms"]), rig.posts[1][0]["more"]) == (10, 989)


def test_a_thousand_of_one_kind_are_one_notice_with_the_count() -> None:
    rig = Rig()
    rig.happens(1)
    rig.clock.advance(0)
    for _ in range(1000):
        rig.happens(1, "again")
    rig.posts[0][1].callback(None)
    rig.clock.advance(10)
    [only] = rig.posts[1][0]["alarms"]
    assert (only["count"], only["state"]) == (1001, "again")
    rig.posts[1][1].callback(None)
    rig.clock.advance(1000)
    assert len(rig.posts) == 2
    assert (rig.webhook.posted, rig.webhook.failed) == (2, 0)


def test_a_post_that_fails_is_tried_again_after_growing_pauses_and_then_given_up() -> None:
    rig = Rig()
    rig.happens(1)
    rig.clock.advance(0)
    rig.posts[-1][1].errback(PostRefused("it answered 500"))
    rig.clock.advance(0.9)
    assert len(rig.posts) == 1
    rig.clock.advance(0.1)
    rig.posts[-1][1].errback(PostRefused("it answered 500"))
    rig.clock.advance(2)
    assert len(rig.posts) == 3
    assert rig.posts[0][0] == rig.posts[2][0]
    rig.posts[-1][1].errback(PostRefused("it answered 500"))
    rig.clock.advance(1000)
    assert len(rig.posts) == 3
    assert (rig.webhook.posted, rig.webhook.failed) == (0, 1)
    rig.happens(2)
    rig.clock.advance(0)
    assert len(rig.posts) == 4


def test_a_post_that_hangs_counts_as_failed() -> None:
    rig = Rig()
    rig.happens(1)
    rig.clock.advance(0)
    rig.clock.advance(SETTINGS.webhook_timeout_s)
    assert rig.posts[0][1].called
    rig.clock.advance(1)
    assert len(rig.posts) == 2


def test_closing_ends_everything() -> None:
    rig = Rig()
    rig.happens(1)
    rig.clock.advance(0)
    rig.happens(2)
    rig.webhook.close()
    rig.happens(3)
    assert rig.posts[0][1].called
    assert rig.clock.getDelayedCalls() == []


class Pager(Resource):
    isLeaf = True

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code
        self.bodies: list[bytes] = []

    def render_POST(self, request: Any) -> bytes:
        self.bodies.append(request.content.read())
        request.setResponseCode(self.code)
        return b"x" * 100_000


@pytest.mark.parametrize(("code", "outcome"), [(200, None), (500, "it answered 500 Internal Server Error")])
@pytest_twisted.ensureDeferred
async def test_over_real_http(code: int, outcome: str | None) -> None:
    pager = Pager(code)
    port = reactor.listenTCP(0, Site(pager), interface="127.0.0.1")
    problem = None
    try:
        await http_post(reactor, f"http://127.0.0.1:{port.getHost().port}/alarms", 1.0)(b'{"a": 1}')
    except PostRefused as refused:
        problem = str(refused)
    finally:
        await port.stopListening()
    assert pager.bodies == [b'{"a": 1}']
    assert problem == outcome
