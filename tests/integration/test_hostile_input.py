"""Garbage, oversized frames, wrong certificates and requests: clear errors for the sender, nothing for the others."""

from __future__ import annotations

import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from google.protobuf.message import Message
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from phxqueue.admin.certificates import make_missing
from phxqueue.admin.clients import open_master_client
from phxqueue.admin.node_status import backlogs, untold, without_master
from phxqueue.admin.processes.files import STORE_ID, ClusterSpec
from phxqueue.config import Leaf, TlsPaths, certificate_paths
from phxqueue.net.address import Address
from phxqueue.net.pool import ConnectionPool
from phxqueue.net.status import RpcError, Status
from phxqueue.net.tls import TlsPaths as NetTlsPaths
from phxqueue.net.tls import client_tls
from phxqueue.producer import (
    InvalidItem,
    ItemTooLarge,
    Producer,
    Refused,
    UnknownGroup,
    UnknownHandle,
    UnknownPub,
    UnknownTopic,
)
from phxqueue.producer.routes import store_route
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch, QItem, QItems
from phxqueue.proto.methods import ADD, GET, NODE_STATUS, PEER_HELLO
from phxqueue.proto.paxos_pb2 import PeerHelloRequest
from phxqueue.proto.status_pb2 import NodeStatusRequest
from phxqueue.proto.store_pb2 import AddRequest, GetRequest
from tests.integration.cluster import PATIENT, TestedCluster
from tests.integration.ledger import LedgerClient

pytestmark = pytest.mark.shared_reactor

GARBAGE = 30
#: At the same time.
THROWERS = 7
#: Whoever is answered is answered sooner; a machine that stands still is given time.
ANSWER_S = 60.0


@pytest_twisted.async_yield_fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TestedCluster]:
    # A long lease: a busy machine must not move the mastership that garbage must not.
    spec = ClusterSpec(queues=2, store={"master_lease_ms": 6000}, topic=PATIENT)
    started = TestedCluster(reactor, tmp_path_factory.mktemp("hostile") / "cluster", spec)
    try:
        await started.start()
        yield started
    finally:
        await started.close()


Ask = Callable[[Any, Message], Deferred[Any]]


@pytest.fixture
def ask(cluster: TestedCluster) -> Ask:
    """Asks the master as a producer would, but whatever one likes."""
    client = open_master_client(reactor, cluster.cluster, cluster.topic, cluster.pool)
    route = store_route(cluster.topic, STORE_ID, 0)
    return lambda method, request: client.call(route, method, request, ANSWER_S)


def addresses(cluster: TestedCluster) -> list[Address]:
    nodes = cluster.topic.stores[0].nodes
    return [Address(node.ip, port) for node in nodes for port in (node.port, node.paxos_port)]


# ---- below the protocol ---------------------------------------------------------------------------


def _throw(address: Address, content: bytes) -> None:
    """Send bytes to a port and read what comes until it is closed, or we hang up."""
    with socket.create_connection((address.host, address.port), timeout=ANSWER_S) as plain:
        plain.settimeout(0.2)
        try:
            plain.sendall(content)
            while plain.recv(65536):
                pass
        except (TimeoutError, ConnectionError):
            pass


def _throw_some(targets: list[Address], thrower: int) -> None:
    generator = random.Random(thrower)
    for number in range(thrower, GARBAGE, THROWERS):
        content = [
            generator.randbytes(generator.randrange(1, 5000)),
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01" + generator.randbytes(600),  # begins like TLS
            b"\xff\xff\xff\xff" + bytes(100),
            b"",
        ][number % 5]
        _throw(targets[number % len(targets)], content)


@pytest_twisted.ensureDeferred
async def test_garbage_on_every_port_disturbs_nobody(cluster: TestedCluster) -> None:
    client = LedgerClient(reactor, await cluster.producer())
    client.start()
    await client.confirmed(50)
    before = await cluster.ballot()
    await gatherResults([deferToThread(_throw_some, addresses(cluster), thrower) for thrower in range(THROWERS)])
    await client.confirmed(50)
    books = await client.stop()
    assert books.errors == []
    assert await cluster.ballot() == before
    for child in cluster.stores:
        assert "Traceback" not in cluster.log_of(child), cluster.log_of(child)


def _tls_connection(address: Address, paths: TlsPaths) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_cert_chain(paths.certificate, paths.key)
    context.load_verify_locations(paths.ca)
    context.set_alpn_protocols(["phxqueue/1"])
    return context.wrap_socket(socket.create_connection((address.host, address.port), timeout=ANSWER_S))


# The same in every process: the workers of pytest-xdist have to find the same tests.
NO_ENVELOPE = struct.pack(">I", 50) + random.Random(1).randbytes(50)


@pytest.mark.parametrize("content", [struct.pack(">I", 1 << 31), NO_ENVELOPE], ids=["too large", "no envelope"])
@pytest_twisted.ensureDeferred
async def test_bad_frames_from_somebody_with_a_certificate(cluster: TestedCluster, content: bytes) -> None:
    """An oversized frame is not waited for, and one that is no envelope ends the connection."""
    assert cluster.cluster.tls is not None
    paths = cluster.cluster.tls

    def attack() -> int:
        with _tls_connection(addresses(cluster)[0], paths) as connection:
            connection.sendall(content)
            received = 0
            while data := connection.recv(65536):
                received += len(data)
            return received

    await deferToThread(attack)  # returns: the server has closed the connection
    producer = await cluster.producer()
    await producer.enqueue(1, 1, b"others go on")


# ---- certificates ---------------------------------------------------------------------------------


async def refusal(address: Address, paths: TlsPaths) -> RpcError:
    """What a node says to somebody, when it says something."""
    while True:
        pool = ConnectionPool(reactor, client_tls(NetTlsPaths(paths.ca, paths.certificate, paths.key)))
        try:
            connection = await pool.connection(address)
            await connection.call(NODE_STATUS, NodeStatusRequest(), ANSWER_S)
        except RpcError as error:
            if error.status not in (Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED):
                return error
        else:
            pytest.fail("let in")
        finally:
            await pool.close()


@pytest_twisted.ensureDeferred
async def test_a_certificate_of_another_authority(cluster: TestedCluster, tmp_path: Path) -> None:
    make_missing(tmp_path, [Leaf("client", "default", ())])
    foreign = certificate_paths(tmp_path, "client", "default")
    error = await refusal(addresses(cluster)[0], foreign)
    assert error.status == Status.UNAUTHENTICATED
    assert "authority" in str(error)

    # Trusting the right authority does not help: the server wants to know us.
    assert cluster.cluster.tls is not None
    ours = cluster.cluster.tls
    both = tmp_path / "both.pem"
    both.write_bytes(foreign.ca.read_bytes() + ours.ca.read_bytes())
    error = await refusal(addresses(cluster)[0], TlsPaths(both, foreign.certificate, foreign.key))
    assert error.status == Status.UNAUTHENTICATED
    status, output, errors = await cluster.run("--tls", *map(str, (both, foreign.certificate, foreign.key)), "status")
    assert status == 1, output + errors
    assert "Traceback" not in errors


@pytest_twisted.ensureDeferred
async def test_a_client_is_not_let_in_at_the_paxos_port(cluster: TestedCluster) -> None:
    assert cluster.cluster.tls is not None
    error = await refusal(addresses(cluster)[1], cluster.cluster.tls)
    assert error.status == Status.PERMISSION_DENIED
    assert "client" in str(error)


# ---- requests that make no sense --------------------------------------------------------------------


def batch(queue_id: int = 0, pub_id: int = 1, items: int = 1, size: int = 10, count: int | None = None) -> ItemBatch:
    content = QItems(items=[QItem(buffer=bytes(size))] * items).SerializeToString()
    header = BatchHeader(
        queue_id=queue_id, pub_id=pub_id, consumer_group_ids=1, count=items if count is None else count
    )
    return ItemBatch(header=header, items=content)


@pytest.mark.parametrize(
    ("batches", "word"),
    [
        ([batch(queue_id=77)], "queue"),
        ([batch(pub_id=77)], "pub"),
        ([batch(items=0)], "empty|count"),
        ([batch(count=0)], "count"),
        ([batch(size=3 << 20)], "items_byte_size_limit"),
        ([batch(items=1001)], "batch_limit"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_adds_that_make_no_sense(cluster: TestedCluster, ask: Ask, batches: list[ItemBatch], word: str) -> None:
    before = await ends(cluster)
    try:
        response = await ask(ADD, AddRequest(topic_id=1000, store_id=1, batches=batches))
        [(status, message)] = [(result.status, result.message) for result in response.results]
    except RpcError as error:
        status, message = error.status, error.message
    assert Status(status) is Status.INVALID_ARGUMENT
    assert any(part in message for part in word.split("|")), message
    assert await ends(cluster) == before


@pytest.mark.parametrize(
    "request_",
    [
        AddRequest(topic_id=9, store_id=1, batches=[batch()]),
        AddRequest(topic_id=1000, store_id=9, batches=[batch()]),
        AddRequest(topic_id=1000, store_id=1),
    ],
)
@pytest_twisted.ensureDeferred
async def test_adds_to_the_wrong_place(ask: Ask, request_: AddRequest) -> None:
    with pytest.raises(RpcError) as caught:
        await ask(ADD, request_)
    assert caught.value.status in (Status.INVALID_ARGUMENT, Status.NOT_FOUND)
    assert len(caught.value.message) > 10


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"queue_id": 77}, "queue"),
        ({"consumer_group_id": 0}, "group"),
        ({"consumer_group_id": 65}, "group"),
        ({"consumer_group_id": 2}, "group"),
        ({"topic_id": 9}, "topic"),
        ({"store_id": 9}, "store"),
        ({"random": True, "next_cursor": 1 << 60}, "end"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_gets_that_make_no_sense(ask: Ask, fields: dict[str, int], word: str) -> None:
    sound = {"topic_id": 1000, "store_id": 1, "queue_id": 0, "consumer_group_id": 1, "limit": 1}
    with pytest.raises(RpcError) as caught:
        await ask(GET, GetRequest(**{**sound, **fields}))  # type: ignore[arg-type]
    assert caught.value.status in (Status.INVALID_ARGUMENT, Status.NOT_FOUND, Status.OUT_OF_RANGE)
    assert word in caught.value.message


@pytest_twisted.ensureDeferred
async def test_a_method_that_is_not_answered_here(ask: Ask) -> None:
    with pytest.raises(RpcError) as caught:
        await ask(PEER_HELLO, PeerHelloRequest())
    assert caught.value.status in (Status.INVALID_ARGUMENT, Status.NOT_FOUND, Status.PERMISSION_DENIED)


async def ends(cluster: TestedCluster) -> dict[int, int]:
    """Where the queues end, by a master with a lease."""
    while True:
        reports = await cluster.reports()
        if not untold(cluster.topic, reports) and not without_master(cluster.topic, reports):
            return {row.queue_id: row.end for row in backlogs(reports)}
        await cluster.pause()


@pytest_twisted.ensureDeferred
async def test_the_producer_refuses_before_anything_is_sent(cluster: TestedCluster) -> None:
    with pytest.raises(UnknownTopic, match="nothing is not configured"):
        await Producer.connect(cluster.cluster, topic="nothing")
    producer = await cluster.producer()
    before = await ends(cluster)
    wrong: list[tuple[type[Exception], Deferred[object]]] = [
        (UnknownPub, producer.enqueue(77, 1, b"")),
        (UnknownHandle, producer.enqueue(1, 77, b"")),
        (UnknownGroup, producer.enqueue(1, 1, b"", consumer_group_ids=[7])),
        (ItemTooLarge, producer.enqueue(1, 1, bytes(3 << 20))),
        (InvalidItem, producer.enqueue(1, 1, b"", uin=-1)),
        (InvalidItem, producer.enqueue(1, 1, "text")),  # type: ignore[arg-type]
    ]
    for kind, outcome in wrong:
        with pytest.raises(kind) as caught:
            await outcome
        assert isinstance(caught.value, Refused)
    assert len(await producer.enqueue_many([])) == 0
    assert await ends(cluster) == before


@pytest.mark.parametrize("arguments", [("echo", "--pub", "9"), ("consume", "--group", "9"), ("--topic", "x", "echo")])
@pytest_twisted.ensureDeferred
async def test_commands_say_what_is_wrong(cluster: TestedCluster, arguments: tuple[str, ...]) -> None:
    status, output, errors = await cluster.run(*arguments)
    assert (status, output) == (1, ""), errors
    assert errors.startswith("phxqueue: ")
    assert errors.count("\n") == 1, errors
