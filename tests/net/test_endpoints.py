"""Real connections on loopback, plain and TLS, and the many ways they can go wrong."""

from __future__ import annotations

import errno
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError, NoRouteError, TimeoutError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from phxqueue.net.address import Address
from phxqueue.net.endpoints import ListenError, RpcListener, connect, connect_failure, listen
from phxqueue.net.identity import ANONYMOUS, Identity, Role
from phxqueue.net.pool import ConnectionPool
from phxqueue.net.routing import MasterClient, Route
from phxqueue.net.rpc import RpcConnection
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.settings import RpcSettings
from phxqueue.net.status import RpcError, Status
from phxqueue.net.tls import ClientTls, TlsPaths, client_tls, server_tls
from phxqueue.proto.methods import ADD, GET
from phxqueue.proto.store_pb2 import AddRequest, AddResponse, GetRequest, GetResponse
from tests.net.conftest import Certificates

reactor: Any = _reactor
LOOPBACK = Address("127.0.0.1", 0)
SETTINGS = RpcSettings(connect_timeout_s=1.0, handshake_timeout_s=1.0, goodbye_linger_s=0.3)

Opened = Callable[..., Awaitable[Any]]


class Echo:
    """Answers ADD at once with the caller's number; keeps GET waiting."""

    def __init__(self) -> None:
        self.service = RpcService("store 1 node 0")
        self.peers: list[Identity] = []
        self.waiting: list[Deferred[GetResponse]] = []
        self.service.register(ADD, self.add)
        self.service.register(GET, self.get)

    def add(self, request: AddRequest, context: CallContext) -> AddResponse:
        self.peers.append(context.peer)
        response = AddResponse()
        response.results.add(first_cursor=request.store_id, count=sum(len(batch.items) for batch in request.batches))
        return response

    def get(self, request: GetRequest, context: CallContext) -> Deferred[GetResponse]:
        self.waiting.append(Deferred())
        return self.waiting[-1]


class Network:
    """What a test opens, to be closed after it."""

    def __init__(self, certificates: Certificates) -> None:
        self.certificates = certificates
        self.echo = Echo()
        self.opened: list[Any] = []

    async def listen(self, paths: TlsPaths | None = None, settings: RpcSettings = SETTINGS) -> RpcListener:
        tls = None if paths is None else server_tls(paths)
        listener = await listen(reactor, LOOPBACK, self.echo.service, tls, settings=settings)
        self.opened.append(listener)
        return listener

    async def connect(
        self, listener: RpcListener, paths: TlsPaths | None = None, tls: ClientTls | None = None, **more: Any
    ) -> RpcConnection:
        if tls is None and paths is not None:
            tls = client_tls(paths)
        return await connect(reactor, listener.address, tls, **{"settings": SETTINGS, **more})

    async def refused(self, listener: RpcListener, *arguments: Any, **more: Any) -> RpcError:
        with pytest.raises(RpcError) as caught:
            await self.connect(listener, *arguments, **more)
        return caught.value

    def pool(self, tls: ClientTls | None = None, **more: Any) -> ConnectionPool:
        pool = ConnectionPool(reactor, tls, settings=SETTINGS, **more)
        self.opened.insert(0, pool)
        return pool


@pytest_twisted.async_yield_fixture
async def network(certificates: Certificates) -> AsyncIterator[Network]:
    network = Network(certificates)
    yield network
    for opened in network.opened:
        await opened.close()


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The lines logged at level warn or above."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"].name in ("warn", "error", "critical"):
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await deferLater(reactor, 0.002)


class Raw(Protocol):
    """A peer that says what the test wants, and keeps what it hears."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


async def raw_peer(listener: RpcListener, data: bytes = b"") -> Raw:
    peer: Raw = await TCP4ClientEndpoint(reactor, listener.address.host, listener.address.port).connect(
        Factory.forProtocol(Raw)
    )
    assert peer.transport is not None
    peer.transport.write(data)
    return peer


def add(connection: RpcConnection, number: int = 7, size: int = 0) -> Deferred[AddResponse]:
    request = AddRequest(store_id=number)
    request.batches.add(items=bytes(size))
    return connection.call(ADD, request, 10.0)


# ---- good connections --------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_plain_on_loopback(network: Network) -> None:
    listener = await network.listen()
    connection = await network.connect(listener)
    response = await add(connection)
    assert response.results[0].first_cursor == 7
    assert network.echo.peers == [ANONYMOUS]
    assert next(iter(listener.connections)).address.host == "127.0.0.1"


@pytest_twisted.ensureDeferred
async def test_mutual_tls(network: Network) -> None:
    listener = await network.listen(network.certificates.store)
    connection = await network.connect(listener, network.certificates.client, expected_identity=Identity.store(1, 0))
    await add(connection)
    assert connection.peer == Identity.store(1, 0)
    assert network.echo.peers == [Identity(Role.CLIENT, "anna")]


@pytest.mark.parametrize("secure", [False, True])
@pytest_twisted.ensureDeferred
async def test_many_calls_of_many_sizes_over_many_connections(network: Network, secure: bool) -> None:
    certificates = network.certificates
    listener = await network.listen(certificates.store if secure else None)
    tls = client_tls(certificates.client) if secure else None
    connections = [await network.connect(listener, tls=tls) for _ in range(3)]
    sizes = [0, 1, 100, 16_384, 70_000, 300_000, 3_000_000]
    calls = [add(connections[n % 3], n, sizes[n % len(sizes)]) for n in range(210)]
    responses = await gatherResults(calls)
    assert [(r.results[0].first_cursor, r.results[0].count) for r in responses] == [
        (n, sizes[n % len(sizes)]) for n in range(210)
    ]


@pytest_twisted.ensureDeferred
async def test_certificates_are_reloaded_for_new_connections(network: Network, tmp_path: Path) -> None:
    files = TlsPaths(tmp_path / "ca.pem", tmp_path / "c.pem", tmp_path / "c.key")

    def install(source: TlsPaths) -> None:
        for name in ("ca", "certificate", "key"):
            shutil.copy(getattr(source, name), getattr(files, name))

    install(network.certificates.store)
    tls = server_tls(files)
    listener = await listen(reactor, LOOPBACK, network.echo.service, tls, settings=SETTINGS)
    network.opened.append(listener)
    before = await network.connect(listener, network.certificates.client)
    install(network.certificates.store1)
    tls.reload()
    after = await network.connect(listener, network.certificates.client)
    assert (before.peer, after.peer) == (Identity.store(1, 0), Identity.store(1, 1))
    await add(before)


# ---- who is there ------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_server_of_another_name_is_refused(network: Network) -> None:
    listener = await network.listen(network.certificates.store1)
    error = await network.refused(listener, network.certificates.client, expected_identity=Identity.store(1, 0))
    assert (error.status, error.maybe_executed) == (Status.PERMISSION_DENIED, False)
    assert f"expected store 1 node 0 at {listener.address} but found store 1 node 1" in error.message


@pytest_twisted.ensureDeferred
async def test_a_client_of_the_wrong_role_is_told_so_and_others_go_on(network: Network, warnings: list[str]) -> None:
    def members_only(peer: Identity, address: Address) -> None:
        if peer.role is not Role.STORE:
            raise RpcError(Status.PERMISSION_DENIED, f"{peer} is no member of store 1")

    network.echo.service.admit = members_only
    listener = await network.listen(network.certificates.store)
    member = await network.connect(listener, network.certificates.store1)
    error = await network.refused(listener, network.certificates.client)
    assert (error.status, error.message) == (
        Status.PERMISSION_DENIED,
        f"{listener.address}: client anna is no member of store 1",
    )
    [line] = warnings
    assert "(client anna): connection dropped: client anna is no member of store 1" in line
    await add(member)


@pytest_twisted.ensureDeferred
async def test_a_client_of_another_authority(network: Network, warnings: list[str]) -> None:
    listener = await network.listen(network.certificates.store)
    error = await network.refused(listener, network.certificates.stranger)
    assert error.status is Status.UNAUTHENTICATED
    assert "the peer's certificate comes from another authority than ours" in error.message
    await until(lambda: warnings)
    assert "the peer does not trust the authority of our certificate" in warnings[0]


def forged_tls(good: TlsPaths, forged: TlsPaths) -> ClientTls:
    """A client that presents a certificate it could not load, had it looked at it."""
    tls = client_tls(good)
    tls._context.use_certificate_file(str(forged.certificate))
    tls._context.use_privatekey_file(str(forged.key))
    return tls


@pytest.mark.parametrize(
    ("bad", "client_hears", "server_logs"),
    [
        ("expired", "the peer says our certificate has expired", "the peer's certificate has expired"),
        ("mixed", "the peer does not trust the authority", "comes from another authority"),
        ("nameless", "names no phxqueue identity", "names no phxqueue identity"),
        ("two_names", "names more than one identity", "names more than one identity"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_client_with_a_bad_certificate_learns_why_and_others_go_on(
    network: Network, warnings: list[str], bad: str, client_hears: str, server_logs: str
) -> None:
    listener = await network.listen(network.certificates.store)
    good = await network.connect(listener, network.certificates.client)
    tls = forged_tls(network.certificates.client, getattr(network.certificates, bad))
    error = await network.refused(listener, tls=tls)
    assert (error.status, error.maybe_executed) == (Status.UNAUTHENTICATED, False)
    assert client_hears in error.message
    [line] = warnings
    assert server_logs in line
    await add(good)


# ---- who does not speak this protocol ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secure", "data", "words"),
    [
        (False, b"GET / HTTP/1.1\r\n\r\n", "the peer speaks HTTP"),
        (False, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "the peer begins a TLS handshake"),
        (False, b"\xff" * 5000, "larger than the limit"),
        (True, b"GET / HTTP/1.1\r\n\r\n", "the peer speaks plain HTTP"),
        (True, b"\0\0\0\x04\x08\x04\x10\x00" * 100, "the peer does not speak TLS"),
        (True, b"\xff" * 5000, "the peer does not speak TLS"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_garbage_costs_one_line_and_its_sender(
    network: Network, warnings: list[str], secure: bool, data: bytes, words: str
) -> None:
    listener = await network.listen(network.certificates.store if secure else None)
    good = await network.connect(listener, network.certificates.client if secure else None)
    peer = await raw_peer(listener, data)
    await until(lambda: warnings)
    assert words in warnings[0]
    await add(good)
    await peer.lost
    await until(lambda: len(listener.connections) == 1)
    assert len(warnings) == 1
    if not secure:
        assert words.encode() in peer.received


@pytest_twisted.ensureDeferred
async def test_plain_to_a_tls_port(network: Network, warnings: list[str]) -> None:
    listener = await network.listen(network.certificates.store)
    error = await network.refused(listener)
    assert (error.status, error.maybe_executed) == (Status.UNAVAILABLE, False)
    assert str(listener.address) in error.message
    assert "the peer does not speak TLS" in warnings[0]


@pytest_twisted.ensureDeferred
async def test_tls_to_a_plain_port(network: Network, warnings: list[str]) -> None:
    listener = await network.listen()
    error = await network.refused(listener, network.certificates.client)
    assert (error.status, error.maybe_executed) == (Status.UNAVAILABLE, False)
    assert "the peer does not speak TLS (is tls off on its side" in error.message
    assert "the peer begins a TLS handshake, but this port is plain TCP (tls: off)" in warnings[0]


@pytest_twisted.ensureDeferred
async def test_a_peer_that_never_begins_its_handshake_is_dropped(network: Network, warnings: list[str]) -> None:
    listener = await network.listen(network.certificates.store, settings=replace(SETTINGS, handshake_timeout_s=0.05))
    peer = await raw_peer(listener)
    await peer.lost
    assert "no TLS handshake within 0.05 s" in warnings[0]


@pytest_twisted.ensureDeferred
async def test_a_peer_that_says_nothing_on_a_plain_port_is_dropped(network: Network, warnings: list[str]) -> None:
    settings = replace(SETTINGS, keepalive_interval_s=0.05, keepalive_timeout_s=0.05)
    listener = await network.listen(settings=settings)
    peer = await raw_peer(listener)
    await peer.lost
    assert "did not answer a ping within 0.05 s" in warnings[0]


@pytest.mark.parametrize("secure", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_server_that_accepts_and_says_nothing(network: Network, secure: bool) -> None:
    """A stopped process: its kernel still completes connections."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = Address(*silent.getsockname()[:2])
        tls = client_tls(network.certificates.client) if secure else None
        with pytest.raises(RpcError, match=r"did not complete the connection within 0\.05 s") as caught:
            await connect(reactor, address, tls, settings=replace(SETTINGS, connect_timeout_s=0.05))
    assert (caught.value.status, caught.value.maybe_executed) == (Status.UNAVAILABLE, False)


@pytest_twisted.ensureDeferred
async def test_a_connection_attempt_can_be_cancelled(network: Network) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = Address(*silent.getsockname()[:2])
        for wait_s in (0.0, 0.02):
            attempt = connect(reactor, address, None, settings=SETTINGS)
            await deferLater(reactor, wait_s)
            attempt.cancel()
            with pytest.raises(CancelledError):
                await attempt


# ---- addresses ---------------------------------------------------------------------------------------------


def free_address() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return Address(*taken.getsockname()[:2])


@pytest_twisted.ensureDeferred
async def test_nobody_listens(network: Network) -> None:
    address = free_address()
    with pytest.raises(RpcError) as caught:
        await connect(reactor, address, None, settings=SETTINGS)
    assert caught.value.message == f"{address}: connection refused (is the node running?)"
    assert (caught.value.status, caught.value.maybe_executed) == (Status.UNAVAILABLE, False)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "connection refused (is the node running?)"),
        (TimeoutError(), "no connection within 2 s (connect_timeout_s)"),
        (NoRouteError(errno.EHOSTUNREACH, "x"), "no route to host (is the machine up, and the network to it?)"),
        (
            ConnectError(errno.ENETUNREACH, "x"),
            "network is unreachable (is the machine up, and the network to it?)",
        ),
        (ConnectError(errno.EADDRNOTAVAIL, "x"), "Cannot assign requested address"),
        (DNSLookupError("no results for hostname lookup: x"), "DNS lookup failed: no results for hostname lookup: x."),
    ],
)
def test_why_there_is_no_connection_is_said_in_words(error: Exception, text: str) -> None:
    assert connect_failure(error, 2.0) == text


@pytest_twisted.ensureDeferred
async def test_a_port_in_use(network: Network) -> None:
    listener = await network.listen()
    with pytest.raises(ListenError, match=f"store 1 node 0 cannot listen on {listener.address}: another process"):
        await listen(reactor, listener.address, network.echo.service, None)


@pytest_twisted.ensureDeferred
async def test_an_address_of_another_machine(network: Network) -> None:
    tls = server_tls(network.certificates.store)
    with pytest.raises(ListenError, match="this machine has no such address"):
        await listen(reactor, Address("192.0.2.1", 0), network.echo.service, tls)


@pytest_twisted.ensureDeferred
async def test_plain_tcp_is_for_loopback_only(network: Network) -> None:
    with pytest.raises(ListenError, match=r"0\.0\.0\.0:0: plain TCP .* loopback addresses only"):
        await listen(reactor, Address("0.0.0.0", 0), network.echo.service, None)
    with pytest.raises(RpcError, match="loopback addresses only") as caught:
        await connect(reactor, Address("192.0.2.1", 5100), None)
    assert caught.value.status is Status.INVALID_ARGUMENT


@pytest_twisted.ensureDeferred
async def test_localhost_by_name(network: Network) -> None:
    listener = await listen(reactor, Address("localhost", 0), network.echo.service, None, settings=SETTINGS)
    network.opened.append(listener)
    connection = await connect(reactor, Address("localhost", listener.address.port), None, settings=SETTINGS)
    await add(connection)


# ---- bounds and ends ---------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_one_connection_too_many_is_told_so(network: Network) -> None:
    listener = await network.listen(settings=replace(SETTINGS, max_connections=2, overload_retry_after_ms=33))
    good = [await network.connect(listener) for _ in range(2)]
    error = await network.refused(listener)
    assert (error.status, error.retry_after_ms, error.maybe_executed) == (Status.RESOURCE_EXHAUSTED, 33, False)
    assert "store 1 node 0 has 2 connections already" in error.message
    await add(good[0])
    good[0].close()
    await until(lambda: len(listener.connections) < 2)
    await add(await network.connect(listener))


@pytest_twisted.ensureDeferred
async def test_a_flood_of_connections_is_closed_unheard(network: Network, warnings: list[str]) -> None:
    listener = await network.listen(network.certificates.store, settings=replace(SETTINGS, max_connections=1))
    peers = [await raw_peer(listener) for _ in range(40)]
    await until(lambda: any("closed unheard" in line for line in warnings))
    assert len(listener.connections) <= 17
    for peer in peers:
        if peer.transport is not None and not peer.lost.called:
            peer.transport.loseConnection()
    for peer in peers:
        await peer.lost


@pytest_twisted.ensureDeferred
async def test_a_graceful_stop_lets_calls_finish(network: Network) -> None:
    listener = await network.listen(network.certificates.store)
    connection = await network.connect(listener, network.certificates.client)
    finishes, hangs = (connection.call(GET, GetRequest(), 10.0) for _ in range(2))
    await until(lambda: len(network.echo.waiting) == 2)
    closed = listener.close(grace_s=0.1)
    late = add(connection)
    network.echo.waiting[0].callback(GetResponse(next_cursor=5))
    assert (await finishes).next_cursor == 5
    for call in (late, hangs):
        with pytest.raises(RpcError, match="store 1 node 0 is stopping") as caught:
            await call
        assert caught.value.status is Status.UNAVAILABLE
    await closed
    assert not connection.is_open
    with pytest.raises(RpcError, match="refused"):
        await network.connect(listener)


@pytest_twisted.ensureDeferred
async def test_stopping_to_listen_keeps_connections(network: Network) -> None:
    listener = await network.listen()
    connection = await network.connect(listener)
    await listener.stopListening()
    assert (await network.refused(listener)).status is Status.UNAVAILABLE
    await add(connection)
    connection.close()
    await connection.when_closed()


# ---- pool --------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_pool_shares_connections(network: Network) -> None:
    listener = await network.listen(network.certificates.store)
    pool = network.pool(client_tls(network.certificates.client), expected={listener.address: Identity.store(1, 0)})
    assert pool.existing(listener.address) is None
    connections = await gatherResults([pool.connection(listener.address) for _ in range(10)])
    assert len(set(connections)) == 1
    assert pool.existing(listener.address) is connections[0]
    assert await pool.connection(listener.address) is connections[0]
    assert len(listener.connections) == 1


@pytest_twisted.ensureDeferred
async def test_a_pool_replaces_a_lost_connection(network: Network) -> None:
    listener = await network.listen()
    pool = network.pool()
    first = await pool.connection(listener.address)
    first.abort("a test wants it")
    assert pool.existing(listener.address) is None
    second = await pool.connection(listener.address)
    assert second is not first
    await add(second)


@pytest_twisted.ensureDeferred
async def test_all_who_wait_for_a_connection_learn_that_it_failed(network: Network) -> None:
    pool = network.pool()
    address = free_address()
    attempts = [pool.connection(address) for _ in range(3)]
    for attempt in attempts:
        with pytest.raises(RpcError, match="connection refused"):
            await attempt
    with pytest.raises(RpcError, match="connection refused"):
        await pool.connection(address)


@pytest_twisted.ensureDeferred
async def test_one_who_waits_no_longer_does_not_spoil_it_for_the_others(network: Network) -> None:
    listener = await network.listen()
    pool = network.pool()
    attempts = [pool.connection(listener.address) for _ in range(3)]
    attempts[1].cancel()
    with pytest.raises(CancelledError):
        await attempts[1]
    assert await attempts[0] is await attempts[2]


@pytest_twisted.ensureDeferred
async def test_a_pool_expects_who_it_is_told_to(network: Network) -> None:
    listener = await network.listen(network.certificates.store1)
    pool = network.pool(client_tls(network.certificates.client))
    pool.expect(listener.address, Identity.store(1, 0))
    with pytest.raises(RpcError, match="found store 1 node 1") as caught:
        await pool.connection(listener.address)
    assert caught.value.status is Status.PERMISSION_DENIED


@pytest_twisted.ensureDeferred
async def test_a_pool_is_bounded(network: Network) -> None:
    listener, other = await network.listen(), await network.listen()
    pool = network.pool(max_connections=1)
    await pool.connection(listener.address)
    with pytest.raises(RpcError, match="max_connections") as caught:
        await pool.connection(other.address)
    assert caught.value.status is Status.RESOURCE_EXHAUSTED
    await pool.connection(listener.address)


@pytest_twisted.ensureDeferred
async def test_a_closed_pool(network: Network) -> None:
    listener = await network.listen()
    pool = network.pool()
    connection = await pool.connection(listener.address)
    pending = connection.call(GET, GetRequest(), 10.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        attempt = pool.connection(Address(*silent.getsockname()[:2]))
        await pool.close()
        for call in (pending, attempt, pool.connection(listener.address)):
            with pytest.raises(RpcError) as caught:
                await call  # type: ignore[misc]
            assert caught.value.status is Status.UNAVAILABLE
    await until(lambda: not listener.connections)


# ---- master client -----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_failover_over_real_connections(network: Network) -> None:
    """The master is gone from one moment to the next; calls in flight and new ones end up at its successor."""
    master = [0]
    nodes: list[RpcListener] = []

    def service(number: int) -> RpcService:
        def add(request: AddRequest, context: CallContext) -> AddResponse:
            if number != master[0]:
                raise RpcError(Status.NOT_MASTER, "not me", redirect=str(nodes[master[0]].address))
            return AddResponse(results=[{"first_cursor": number}])  # type: ignore[list-item]

        service = RpcService(f"node {number}")
        service.register(ADD, add)
        return service

    tls = server_tls(network.certificates.store)
    for number in range(3):
        nodes.append(await listen(reactor, LOOPBACK, service(number), tls, settings=SETTINGS))
    network.opened += nodes
    client = MasterClient(network.pool(client_tls(network.certificates.client)), reactor, Random(1))
    route = Route("store:1:1:0", tuple(node.address for node in nodes), "store 1")
    first = await gatherResults([client.call(route, ADD, AddRequest(), 5.0) for _ in range(20)])
    assert {response.results[0].first_cursor for response in first} == {0}

    await nodes[0].stopListening()
    for connection in nodes[0].connections:
        connection.abort("killed")
    calls = [client.call(route, ADD, AddRequest(), 5.0) for _ in range(20)]
    reactor.callLater(0.1, master.__setitem__, 0, 2)  # elected
    second = await gatherResults(calls)  # within their own deadline
    assert {response.results[0].first_cursor for response in second} == {2}
    assert client.master(route) == nodes[2].address
