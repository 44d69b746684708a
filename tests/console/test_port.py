"""The admin port over real sockets: its pages, who may come, and what it takes no part in."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread

from phxqueue.config.admin_settings import AdminSettings
from phxqueue.config.certificates import TlsPaths
from phxqueue.console.console import Console
from phxqueue.console.families import Families
from phxqueue.console.port import AdminPort
from phxqueue.console.site import pages
from phxqueue.net.address import Address
from phxqueue.net.certs import create_authority, issue
from phxqueue.net.endpoints import ListenError
from phxqueue.net.identity import Identity, Role
from tests.console.test_alarms import alarm


class Rig:
    def __init__(self, **settings: Any) -> None:
        self.console = Console("store 1 node 0", AdminSettings(**settings), None, reactor)
        self.port: AdminPort | None = None

    def open(self, host: str = "127.0.0.1", tls: TlsPaths | None = None) -> AdminPort:
        self.port = AdminPort(
            reactor, "store 1 node 0", Address(host, 0), pages(self.console), tls, max_connections=4, idle_timeout_s=5
        )
        return self.port

    async def get(self, path: str, method: str = "GET") -> tuple[int, str, str]:
        assert self.port is not None
        code, headers, body = await deferToThread(fetch, self.port.address.port, method, f"/{path}")
        return code, headers["Content-Type"], body.decode()


def fetch(port: int, method: str, path: str, context: ssl.SSLContext | None = None) -> tuple[int, Any, bytes]:
    if context is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
    try:
        connection.request(method, path, headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@pytest.fixture
def rig() -> Any:
    made = Rig()
    port = made.open()
    yield made
    pytest_twisted.blockon(port.close())


@pytest_twisted.ensureDeferred
async def test_health_and_readiness(rig: Rig) -> None:
    console = rig.console
    assert (await rig.get("healthz"))[0] == 200
    assert (await rig.get("readyz"))[::2] == (503, "store 1 node 0: it is starting\n")
    console.ready()
    assert (await rig.get("readyz"))[::2] == (200, "ok\n")
    console.stopping()
    assert (await rig.get("readyz"))[0] == 503
    console.failed("the disk is gone")
    assert (await rig.get("healthz"))[::2] == (503, "store 1 node 0: the disk is gone\n")


def some_metrics() -> Any:
    out = Families(store=1)
    out.gauge("queue_lag_items", "Lag.", 7, queue=3, note='a "quoted"\nname')
    out.histogram("journal_commit_seconds", "Time.", [0.1, 1.0], [3, 2, 1], 4.5)
    return out.all()


@pytest_twisted.ensureDeferred
async def test_metrics_are_what_prometheus_reads(rig: Rig) -> None:
    rig.console.collectors.append(some_metrics)
    rig.console.desk.raise_alarm(alarm())
    code, kind, text = await rig.get("metrics")
    assert (code, kind.partition(";")[0]) == (200, "text/plain")
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    lag = (("note", 'a "quoted"\nname'), ("queue", "3"), ("store", "1"))
    assert found["phxqueue_queue_lag_items", lag] == 7
    buckets = [found["phxqueue_journal_commit_seconds_bucket", (("le", le), ("store", "1"))] for le in ("0.1", "+Inf")]
    assert buckets == [3, 6]
    standing = (("group", "2"), ("kind", "mismatch"), ("pub", "3"), ("queue", "1"), ("store", "1"))
    assert found["phxqueue_alarm", standing] == 1
    assert found["phxqueue_alarms_raised_total", (("kind", "mismatch"),)] == 1
    assert found["process_resident_memory_bytes", ()] > 1e6


@pytest_twisted.ensureDeferred
async def test_metrics_that_cannot_be_told_are_an_error_and_nothing_else(rig: Rig, logged_errors: Any) -> None:
    def broken() -> Any:
        raise ZeroDivisionError

    rig.console.collectors.append(broken)
    assert (await rig.get("metrics"))[0] == 500
    assert len(logged_errors.flush(ZeroDivisionError)) == 1
    assert (await rig.get("healthz"))[0] == 200


@pytest_twisted.ensureDeferred
async def test_events_and_alarms(rig: Rig) -> None:
    rig.console.ready()
    rig.console.desk.raise_alarm(alarm())
    _, kind, text = await rig.get("events")
    assert kind == "application/x-ndjson; charset=utf-8"
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["number"], line["kind"], line["node"]) for line in lines] == [
        (1, "ready", "store 1 node 0"),
        (2, "alarm", "store 1 node 0"),
    ]
    assert json.loads((await rig.get("events?after=1"))[2])["alarm"] == alarm().name
    assert (await rig.get("events?kind=ready"))[2].count("\n") == 1
    assert (await rig.get("events?after=x"))[0] == 400
    [standing] = json.loads((await rig.get("alarms"))[2])
    assert (standing["name"], standing["remedy"]) == (alarm().name, "look")


@pytest_twisted.ensureDeferred
async def test_there_is_nothing_to_change(rig: Rig) -> None:
    assert (await rig.get("metrics", "POST"))[0] == 405
    assert (await rig.get("nothing"))[0] == 404
    assert "/metrics" in (await rig.get(""))[2]


class Talker(Protocol):
    def __init__(self, say: bytes) -> None:
        self.say = say
        self.heard = b""
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self.say)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.gone.callback(None)


async def talk(port: AdminPort, say: bytes) -> Talker:
    endpoint = TCP4ClientEndpoint(reactor, port.address.host, port.address.port)
    return await connectProtocol(endpoint, Talker(say))


@pytest.mark.parametrize("head", [b"Content-Length: 1000000000", b"Transfer-Encoding: chunked"])
@pytest_twisted.ensureDeferred
async def test_bodies_are_not_taken(rig: Rig, head: bytes) -> None:
    assert rig.port is not None
    talker = await talk(rig.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + 100_000 * b"x")
    await talker.gone
    assert talker.heard == b""


@pytest_twisted.ensureDeferred
async def test_connections_are_bounded(rig: Rig) -> None:
    assert rig.port is not None
    talkers = [await talk(rig.port, b"") for _ in range(4)]
    fifth = await talk(rig.port, b"")
    await fifth.gone
    for talker in talkers:
        assert not talker.gone.called
        talker.transport.loseConnection()
        await talker.gone


def ask(port: int, authority: Path, mine: TlsPaths | None) -> tuple[int, Any, bytes]:
    """Ask /healthz over TLS; with a certificate, or without."""
    context = ssl.create_default_context(cafile=str(authority))
    context.check_hostname = False
    if mine is not None:
        context.load_cert_chain(mine.certificate, mine.key)
    return fetch(port, "GET", "/healthz", context)


@pytest_twisted.ensureDeferred
async def test_elsewhere_it_is_tls_for_those_with_a_certificate(tmp_path: Path) -> None:
    create_authority(tmp_path)
    node = issue(tmp_path, Identity.store(1, 0))
    friend = issue(tmp_path, Identity.make(Role.CLIENT, "prometheus"))
    port = Rig().open("0.0.0.0", node)
    try:
        assert port.url.startswith("https://")
        assert (await deferToThread(ask, port.address.port, node.ca, friend))[::2] == (200, b"ok\n")
        port.reload()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await deferToThread(ask, port.address.port, node.ca, None)
    finally:
        await port.close()


def test_plain_http_does_not_leave_the_machine() -> None:
    with pytest.raises(ListenError, match=r"cannot be plain HTTP on 0\.0\.0\.0:0"):
        Rig().open("0.0.0.0")


def test_a_port_in_use_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        made = Rig(port=taken.getsockname()[1])
        with pytest.raises(ListenError, match="Address already in use"):
            made.console.open()
