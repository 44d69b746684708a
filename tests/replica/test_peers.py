"""Members find each other over real connections, know who sends, and let nobody else in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, capturedLogs, formatEvent

from phxqueue.net.address import Address
from phxqueue.net.endpoints import RpcListener, connect, listen
from phxqueue.net.identity import Role
from phxqueue.net.rpc import RpcConnection
from phxqueue.net.settings import RpcSettings
from phxqueue.net.status import RpcError, Status
from phxqueue.net.tls import TlsPaths, client_tls, server_tls
from phxqueue.paxos.config import Member
from phxqueue.paxos.messages import Heartbeat, Message
from phxqueue.proto import methods
from phxqueue.proto.paxos_pb2 import PeerFrame, PeerHelloRequest
from phxqueue.replica import codec
from phxqueue.replica.peer_port import PeerPort
from phxqueue.replica.peers import PeerLinks, PeerSettings
from phxqueue.replica.roster import Greeting, MemberPlace, Roster, known_places
from tests.conftest import LoggedErrors
from tests.replica.conftest import Certificates

reactor: Any = _reactor
#: Nothing here waits for a time-out to be over: a machine that stands still for a moment must not make one of it.
RPC = RpcSettings(connect_timeout_s=15.0, handshake_timeout_s=15.0, goodbye_linger_s=0.2)
DIALLING = PeerSettings(reconnect_min=0.005, reconnect_max=0.02, hello_timeout=15.0)


async def until(condition: Callable[[], object]) -> None:
    """Let the reactor turn until something has become so; the test's own time limit ends what never does."""
    while not condition():
        await deferLater(reactor, 0.002)


class Node:
    """One member: what it hears, whom it misses, what the others said of themselves."""

    def __init__(self, roster: Roster, paths: TlsPaths | None) -> None:
        self.roster = roster
        self.paths = paths
        self.fresh = False
        self.lineage = 0
        self.dialling = DIALLING
        self.heard: list[Message] = []
        self.missed: list[int] = []
        self.greetings: list[tuple[int, Greeting]] = []
        self.incarnations: dict[int, int] = {}
        self.listener: RpcListener | None = None
        self.make_links()

    def make_links(self) -> None:
        self.links = PeerLinks(
            reactor,
            self.roster,
            None if self.paths is None else client_tls(self.paths),
            self.missed.append,
            greeting=self.greeting,
            on_greeting=self.greeted,
            random=Random(1),
            settings=self.dialling,
            rpc_settings=RPC,
        )

    def greeting(self) -> Greeting:
        return Greeting(self.roster.incarnation, self.fresh, lineage=self.lineage)

    def greeted(self, node_id: int, greeting: Greeting) -> None:
        self.greetings.append((node_id, greeting))
        self.incarnations[node_id] = greeting.incarnation
        self.links.alive(node_id)

    def port(self) -> PeerPort:
        return PeerPort(
            lambda: self.roster,
            self.paths is not None,
            greeting=self.greeting,
            on_greeting=self.greeted,
            incarnation_of=self.incarnations.get,
            receive=self.receive,
        )

    def follow(self, **different: Any) -> None:
        """The membership has changed."""
        self.roster = replace(self.roster, **different)
        self.links.update(self.roster)

    async def listen(self, port: int = 0) -> None:
        service = self.port().service()
        tls = None if self.paths is None else server_tls(self.paths)
        self.listener = await listen(reactor, Address("127.0.0.1", port), service, tls, settings=RPC)

    @property
    def address(self) -> Address:
        assert self.listener is not None
        return self.listener.address

    def receive(self, messages: Sequence[tuple[int, Message]]) -> None:
        self.heard.extend(message for _, message in messages)

    def send(self, receiver: int, chosen: int = 0) -> None:
        self.links.send(receiver, [(0, Heartbeat(self.roster.node_id, receiver, 1, chosen, 0.0, 1))])

    async def stop(self) -> None:
        if self.listener is not None:
            await self.listener.close()


class Members:
    """Makes nodes of one replica set that know each other's addresses, and closes them."""

    def __init__(self) -> None:
        self.addresses = {node_id: (Address("127.0.0.1", 1),) for node_id in (0, 1)}
        self.nodes: list[Node] = []
        self.connections: list[RpcConnection] = []

    async def node(self, node_id: int, paths: TlsPaths | None = None, **different: Any) -> Node:
        roster = Roster(
            cluster="test",
            role=Role.STORE,
            set_id=1,
            node_id=node_id,
            incarnation=100 + node_id,
            paxos_groups=4,
            addresses=self.addresses,
            voters=frozenset({0, 1}),
        )
        node = Node(replace(roster, **different), paths)
        await node.listen()
        self.addresses[node_id] = (node.address,)
        self.nodes.append(node)
        return node

    def relink(self, node: Node) -> None:
        """Have a node learn the addresses of members that were made after it, and dial."""
        node.make_links()
        node.links.start()

    async def dial(self, node: Node, paths: TlsPaths | None = None) -> RpcConnection:
        tls = None if paths is None else client_tls(paths)
        connection = await connect(reactor, node.address, tls, settings=RPC)
        self.connections.append(connection)
        return connection

    async def close(self) -> None:
        for connection in self.connections:
            connection.close()
        for node in self.nodes:
            node.links.close()
        for node in self.nodes:
            await node.stop()
        await deferLater(reactor, 0)  # connections say goodbye at the end of the turn


@pytest_twisted.async_yield_fixture
async def members() -> AsyncIterator[Members]:
    made = Members()
    yield made
    await made.close()


async def pair(members: Members, paths: Sequence[TlsPaths | None] = (None, None)) -> tuple[Node, Node]:
    first = await members.node(0, paths[0])
    second = await members.node(1, paths[1])
    for node in (first, second):
        members.relink(node)
    await until(lambda: first.links.reachable() and second.links.reachable())
    return first, second


def hello(**different: Any) -> PeerHelloRequest:
    asked: dict[str, Any] = {"cluster": "test", "store_id": 1, "node_id": 1, "incarnation": 9, "paxos_groups": 4}
    return PeerHelloRequest(**{**asked, **different})


async def refused(calling: Awaitable[object]) -> RpcError:
    with pytest.raises(RpcError) as raised:
        await calling
    return raised.value


# ---- members --------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_members_talk_to_each_other(members: Members) -> None:
    first, second = await pair(members)
    assert first.links.reachable() == {1}
    first.send(1, chosen=5)
    second.send(0, chosen=6)
    await until(lambda: first.heard and second.heard)
    assert second.heard == [Heartbeat(0, 1, 1, 5, 0.0, 1)]
    assert first.heard == [Heartbeat(1, 0, 1, 6, 0.0, 1)]
    assert first.missed == []


@pytest_twisted.ensureDeferred
async def test_members_talk_to_each_other_by_certificate(members: Members, certificates: Certificates) -> None:
    first, second = await pair(members, certificates.nodes[:2])
    first.send(1, chosen=5)
    await until(lambda: second.heard)
    assert second.heard[0].sender == 0


@pytest_twisted.ensureDeferred
async def test_frames_keep_their_order(members: Members) -> None:
    first, second = await pair(members)
    for number in range(200):
        first.send(1, chosen=number)
    await until(lambda: len(second.heard) == 200)
    assert [message.chosen for message in second.heard if isinstance(message, Heartbeat)] == list(range(200))


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_sent_is_dropped(members: Members) -> None:
    alone = await members.node(0)
    alone.send(1)
    alone.send(99)
    assert alone.links.reachable() == frozenset()


# ---- who comes and goes -----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_process_that_is_gone_is_missed_and_found_again(members: Members) -> None:
    first, second = await pair(members)
    port = second.address.port
    await second.stop()
    await until(lambda: 1 in first.missed)
    assert first.links.reachable() == frozenset()
    await second.listen(port)
    await until(lambda: first.links.reachable())
    first.send(1)
    await until(lambda: second.heard)


@pytest_twisted.ensureDeferred
async def test_a_lost_connection_alone_is_no_lost_process(members: Members) -> None:
    first, second = await pair(members)
    assert second.listener is not None
    before = second.listener.connections
    for connection in before:
        connection.abort("the network hiccups")
    await until(lambda: second.listener and second.listener.connections - before and first.links.reachable())
    first.send(1)
    await until(lambda: second.heard)
    assert first.missed == []


@pytest_twisted.ensureDeferred
async def test_a_member_that_comes_up_later_is_found(members: Members) -> None:
    first = await members.node(0)
    second = await members.node(1)
    port = second.address.port
    await second.stop()
    members.relink(first)
    await until(lambda: len(first.missed) >= 3)
    await second.listen(port)
    await until(lambda: first.links.reachable() == {1})


@pytest_twisted.ensureDeferred
async def test_who_has_connected_is_dialled_at_once(members: Members) -> None:
    """A node that has just started is to be of use, whatever pause its absence has earned it."""
    first = await members.node(0)
    second = await members.node(1)
    port = second.address.port
    await second.stop()
    first.dialling = PeerSettings(reconnect_min=3600.0, reconnect_max=3600.0)
    members.relink(first)
    await until(lambda: first.missed)
    await second.listen(port)
    members.relink(second)
    await until(lambda: first.links.reachable() == {1})


@pytest_twisted.ensureDeferred
async def test_an_attempt_that_hangs_is_given_up_for_who_has_connected(members: Members) -> None:
    """As when the first packets were lost in a cut that is over: TCP would wait for long before the next ones."""
    first = await members.node(0)
    second = await members.node(1)
    port = second.address.port
    await second.stop()
    silent = Factory.forProtocol(Protocol)
    hanging = reactor.listenTCP(port, silent, interface="127.0.0.1")
    members.relink(first)
    await deferLater(reactor, 2 * DIALLING.reconnect_max)
    await hanging.stopListening()  # what it has accepted stays open
    await second.listen(port)
    members.relink(second)
    await until(lambda: first.links.reachable() == {1})
    assert first.missed == []


@pytest_twisted.ensureDeferred
async def test_closing_while_dialling_leaves_nothing_behind(members: Members) -> None:
    first = await members.node(0)
    await members.node(1)
    members.relink(first)
    first.links.close()
    first.links.start()  # too late
    assert first.links.reachable() == frozenset()


# ---- who is let in ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("different", [{"cluster": "other"}, {"store_id": 2}, {"paxos_groups": 8}])
@pytest_twisted.ensureDeferred
async def test_a_node_of_another_replica_set_is_told_so(members: Members, different: dict[str, Any]) -> None:
    node = await members.node(0)
    connection = await members.dial(node)
    error = await refused(connection.call(methods.PEER_HELLO, hello(**different), 15.0))
    assert error.status is Status.PERMISSION_DENIED
    assert "this is cluster 'test' store 1 with 4 Paxos groups" in error.message
    assert "compare the configuration files" in error.message


@pytest_twisted.ensureDeferred
async def test_members_that_disagree_stay_apart(members: Members) -> None:
    first = await members.node(0)
    second = await members.node(1, paxos_groups=8)
    members.relink(first)
    members.relink(second)
    await until(lambda: first.missed and second.missed)
    first.send(1)
    await deferLater(reactor, 0.02)
    assert second.heard == []
    assert first.links.reachable() == frozenset()


@pytest_twisted.ensureDeferred
async def test_an_address_where_somebody_else_lives_is_not_talked_to(
    members: Members, certificates: Certificates
) -> None:
    first = await members.node(0, certificates.nodes[0])
    wrong = await members.node(1, certificates.nodes[2])  # node 2 answers at the address of node 1
    members.relink(first)
    await until(lambda: first.missed)
    assert first.links.reachable() == frozenset()
    assert wrong.heard == []


@pytest.mark.parametrize("stranger", ["client", "other_store"])
@pytest_twisted.ensureDeferred
async def test_a_stranger_with_a_good_certificate_is_not_let_in(
    members: Members, certificates: Certificates, stranger: str
) -> None:
    node = await members.node(0, certificates.nodes[0])
    error = await refused(members.dial(node, getattr(certificates, stranger)))
    assert error.status is Status.PERMISSION_DENIED
    assert "is not a member of store 1" in error.message


@pytest_twisted.ensureDeferred
async def test_a_member_cannot_pass_for_another(members: Members, certificates: Certificates) -> None:
    members.addresses[2] = (Address("127.0.0.1", 1),)
    node = await members.node(0, certificates.nodes[0])
    connection = await members.dial(node, certificates.nodes[2])
    error = await refused(connection.call(methods.PEER_HELLO, hello(node_id=1), 15.0))
    assert error.status is Status.PERMISSION_DENIED
    assert error.message == "the certificate says store 1 node 2, the caller node 1"


# ---- what is listened to ------------------------------------------------------------------------------------------


def frame(chosen: int = 0, sender: int = 1) -> PeerFrame:
    return codec.encode_frame(sender, [(0, Heartbeat(sender, 0, 1, chosen, 0.0, 1))])


@pytest_twisted.ensureDeferred
async def test_who_has_not_said_hello_is_not_listened_to(members: Members, logged_errors: LoggedErrors) -> None:
    node = await members.node(0)
    connection = await members.dial(node)
    connection.send_one_way(methods.PEER_FRAME, frame(1))
    await connection.call(methods.PEER_HELLO, hello(), 15.0)
    connection.send_one_way(methods.PEER_FRAME, frame(2))
    await until(lambda: node.heard)
    assert [message.chosen for message in node.heard if isinstance(message, Heartbeat)] == [2]


@pytest_twisted.ensureDeferred
async def test_hello_counts_for_its_connection_only(members: Members) -> None:
    node = await members.node(0)
    greeted, other = await members.dial(node), await members.dial(node)
    await greeted.call(methods.PEER_HELLO, hello(), 15.0)
    other.send_one_way(methods.PEER_FRAME, frame(1))
    await refused(other.call(methods.PEER_HELLO, hello(cluster="x"), 15.0))  # by now the frame has been read
    assert node.heard == []


@pytest_twisted.ensureDeferred
async def test_the_sender_is_who_said_hello_whatever_the_frame_says(members: Members) -> None:
    node = await members.node(0)
    connection = await members.dial(node)
    members.addresses[2] = (Address("127.0.0.1", 1),)
    await connection.call(methods.PEER_HELLO, hello(node_id=2), 15.0)
    connection.send_one_way(methods.PEER_FRAME, frame(sender=1))
    await until(lambda: node.heard)
    assert (node.heard[0].sender, node.heard[0].receiver) == (2, 0)


@pytest_twisted.ensureDeferred
async def test_a_frame_nobody_understands_is_dropped_and_the_next_one_heard(members: Members) -> None:
    node = await members.node(0)
    connection = await members.dial(node)
    await connection.call(methods.PEER_HELLO, hello(), 15.0)
    strange = PeerFrame(sender=1)
    strange.messages.add(type=99)
    connection.send_one_way(methods.PEER_FRAME, strange)
    connection.send_one_way(methods.PEER_FRAME, frame(7))
    await until(lambda: node.heard)
    assert [message.chosen for message in node.heard if isinstance(message, Heartbeat)] == [7]


# ---- membership changes -------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_new_member_is_dialled_and_let_in(members: Members) -> None:
    first = await members.node(0)
    second = await members.node(1, addresses={0: (first.address,), 1: (Address("127.0.0.1", 1),)})
    first.roster = replace(first.roster, addresses={0: (first.address,)})
    members.relink(first)
    members.relink(second)
    await until(lambda: second.missed)  # turned away: it is no member yet
    assert first.greetings == []
    first.follow(addresses={0: (first.address,), 1: (second.address,)})
    await until(lambda: first.links.reachable() and second.links.reachable())


@pytest_twisted.ensureDeferred
async def test_a_new_reason_to_be_turned_away_is_told_and_none_is_told_twice(members: Members) -> None:
    first = await members.node(0)
    second = await members.node(1, addresses={0: (first.address,), 1: (Address("127.0.0.1", 1),)})
    first.roster = replace(first.roster, addresses={0: (first.address,)})
    first.lineage, second.lineage = 7, 8
    with capturedLogs() as logged:
        members.relink(first)
        members.relink(second)
        await until(lambda: len(second.missed) >= 3)  # turned away: it is no member yet
        first.follow(addresses={0: (first.address,), 1: (second.address,)})
        missed = len(second.missed)
        await until(lambda: len(second.missed) >= missed + 3)  # it is one, and of another life
    lines = [formatEvent(event) for event in logged if event["log_level"] is LogLevel.warn]
    no_member, strife = [line for line in lines if line.startswith("cannot reach node 0 ")]
    assert "is not a member" in no_member
    assert "two lives of one store" in strife


@pytest_twisted.ensureDeferred
async def test_who_is_no_member_any_more_is_dropped_and_not_listened_to(members: Members) -> None:
    first, second = await pair(members)
    first.follow(addresses={0: (first.address,)})
    assert first.links.reachable() == frozenset()
    second.send(0)
    connection = await members.dial(first)
    error = await refused(connection.call(methods.PEER_HELLO, hello(), 15.0))
    assert error.status is Status.PERMISSION_DENIED
    assert "node 1 is not a member of store 1 (`phxqueue members add` makes it one)" in error.message
    assert first.heard == []


@pytest_twisted.ensureDeferred
async def test_a_member_is_followed_to_its_new_address(members: Members) -> None:
    first, second = await pair(members)
    await second.stop()
    await second.listen()
    await until(lambda: first.missed)
    first.follow(addresses={0: (first.address,), 1: (second.address,)})
    await until(lambda: first.links.reachable() == {1})


@pytest_twisted.ensureDeferred
async def test_several_addresses_are_tried_in_turn(members: Members) -> None:
    first = await members.node(0)
    second = await members.node(1)
    first.roster = replace(first.roster, addresses={1: (Address("127.0.0.1", 1), second.address)})
    members.relink(first)
    await until(lambda: first.links.reachable() == {1})
    assert first.missed == []  # one that answers somewhere is not gone


@pytest_twisted.ensureDeferred
async def test_an_address_where_another_member_answers_is_not_talked_to(members: Members) -> None:
    first = await members.node(0)
    third = await members.node(2, addresses={0: (first.address,)})
    first.roster = replace(first.roster, addresses={1: (third.address,)})
    members.relink(first)
    await until(lambda: first.missed)
    assert first.links.reachable() == frozenset()


# ---- greetings ------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_both_sides_hear_what_the_other_says_of_itself(members: Members) -> None:
    first = await members.node(0)
    second = await members.node(1)
    first.fresh = True
    members.relink(first)
    await until(lambda: first.greetings and second.greetings)
    assert first.greetings == [(1, Greeting(101, fresh=False))]
    assert second.greetings == [(0, Greeting(100, fresh=True))]


@pytest_twisted.ensureDeferred
async def test_a_greeting_that_nobody_can_take_costs_its_connection_and_is_tried_again(
    members: Members, logged_errors: LoggedErrors
) -> None:
    one, two = await members.node(0), await members.node(1)
    made: list[RpcConnection | None] = []

    def greeted(node_id: int, greeting: Greeting) -> None:
        made.append(one.links._links[1].connection)
        if len(made) == 1:
            raise ZeroDivisionError("a defect")

    one.make_links()
    one.links._on_greeting = greeted
    one.links.start()
    await until(lambda: len(made) == 2 and one.links.reachable() == {1})
    assert len(logged_errors.flush(ZeroDivisionError)) == 1
    first, second = made
    assert first is not None
    assert first is not second
    await until(lambda: first is not None and not first.is_open)
    one.send(1)
    await until(lambda: two.heard)


@pytest_twisted.ensureDeferred
async def test_the_answer_to_a_greeting_says_how_things_were_before_it(members: Members) -> None:
    """Else the news that lets this node vote would keep the other from hearing that it had not voted."""
    node = await members.node(0)
    node.fresh = True
    heard = node.greeted

    def votes_at_once(node_id: int, greeting: Greeting) -> None:
        heard(node_id, greeting)
        node.fresh = False

    node.greeted = votes_at_once  # type: ignore[method-assign]
    await node.stop()
    await node.listen()
    connection = await members.dial(node)
    answer = await connection.call(methods.PEER_HELLO, hello(fresh=True), 15.0)
    assert answer.fresh
    assert not (await connection.call(methods.PEER_HELLO, hello(fresh=True), 15.0)).fresh


@pytest_twisted.ensureDeferred
async def test_frames_of_an_earlier_incarnation_that_come_late_are_dropped(members: Members) -> None:
    node = await members.node(0)
    old, new = await members.dial(node), await members.dial(node)
    await old.call(methods.PEER_HELLO, hello(incarnation=5), 15.0)
    await new.call(methods.PEER_HELLO, hello(incarnation=6), 15.0)
    old.send_one_way(methods.PEER_FRAME, frame(1))
    await refused(old.call(methods.PEER_HELLO, hello(cluster="x"), 15.0))  # by now the frame has been read
    new.send_one_way(methods.PEER_FRAME, frame(2))
    await until(lambda: node.heard)
    assert [message.chosen for message in node.heard if isinstance(message, Heartbeat)] == [2]


@pytest.mark.parametrize("service", [None, Address("::1", 5101)])
def test_a_place_is_written_and_read_back(service: Address | None) -> None:
    place = MemberPlace(Address("127.0.0.1", 5201), service)
    assert MemberPlace.decode(place.encode()) == place


@pytest.mark.parametrize("info", [b"", b"nowhere", b"\xff\xfe"])
def test_what_names_no_place_is_none(info: bytes) -> None:
    assert MemberPlace.decode(info) is None


# ---- what people are told -----------------------------------------------------------------------------------------


def test_members_are_described_with_a_remedy() -> None:
    addresses = {node_id: (Address("127.0.0.1", 5100 + node_id),) for node_id in range(4)}
    roster = Roster(
        cluster="test",
        role=Role.STORE,
        set_id=1,
        node_id=0,
        incarnation=1,
        paxos_groups=1,
        addresses=addresses,
        voters=frozenset({0, 1, 2}),
    )
    assert roster.describe(frozenset()) == (
        "no majority: 1 of 3 nodes of store 1 reachable (127.0.0.1:5100); "
        "start another (127.0.0.1:5101, 127.0.0.1:5102)"
    )
    learner = replace(roster, node_id=3)
    assert learner.describe(frozenset()) == (
        "no majority: 0 of 3 nodes of store 1 reachable; start 2 more (127.0.0.1:5100, 127.0.0.1:5101, 127.0.0.1:5102)"
    )
    assert roster.describe(frozenset({2})) == ("store 1 is electing a master (2 of 3 nodes reachable); try again")


def test_connections_are_told_apart_although_ids_are_used_again() -> None:
    """`greeted` is keyed by the connection's id: a connection that is gone must not greet for the next one."""
    roster = Roster(
        cluster="test",
        role=Role.STORE,
        set_id=1,
        node_id=0,
        incarnation=1,
        paxos_groups=4,
        addresses={0: (Address("127.0.0.1", 1),), 1: (Address("127.0.0.1", 2),)},
        voters=frozenset({0, 1}),
    )
    node = Node(roster, None)
    heard = node.heard
    service = node.port().service()

    class Connection:
        def __init__(self) -> None:
            self.lost: list[Callable[[Any], None]] = []

        def on_lost(self, callback: Callable[[Any], None]) -> None:
            self.lost.append(callback)

    class Context:
        def __init__(self, connection: Connection) -> None:
            self.connection = connection
            self.peer = None

    connection = Connection()
    context: Any = Context(connection)
    greet: Any = service.table[methods.PEER_HELLO.number].handler
    take: Any = service.table[methods.PEER_FRAME.number].handler
    greet(hello(), context)
    take(frame(), context)
    for callback in connection.lost:
        callback(None)
    with pytest.raises(RpcError, match="must say hello"):
        take(frame(), context)
    assert len(heard) == 1


def test_waiting_works() -> None:
    """`until` would hide a condition that is never asked."""
    asked = Deferred.fromCoroutine(until(lambda: True))
    assert asked.called


def test_everybody_is_at_the_place_of_the_own_files_first_then_where_the_membership_says() -> None:
    members = (
        Member(0, info=MemberPlace(Address("10.0.0.1", 5201)).encode()),
        Member(1, info=MemberPlace(Address("10.0.0.9", 5201)).encode()),
        Member(4, info=MemberPlace(Address("10.0.0.4", 5201)).encode()),
    )
    configured = {node_id: Address(f"10.0.0.{node_id + 1}", 5201) for node_id in range(4)}
    assert known_places(configured, [members, ()], {0, 1, 2, 4}) == {
        0: (Address("10.0.0.1", 5201),),
        1: (Address("10.0.0.2", 5201), Address("10.0.0.9", 5201)),
        2: (Address("10.0.0.3", 5201),),  # leaving: only the files know where it is
        4: (Address("10.0.0.4", 5201),),
    }
