"""The search for a master, with nodes that are plain objects and a clock that only moves when told."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock

from phxqueue.net.address import Address
from phxqueue.net.routing import MasterClient, Route, RoutingSettings
from phxqueue.net.search import Search
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.methods import ADD
from phxqueue.proto.store_pb2 import AddRequest, AddResponse

A, B, C = (Address("127.0.0.1", 5100 + number) for number in range(3))
NAMES = {A: "A", B: "B", C: "C"}
ROUTE = Route("store:1:1:0", (A, B, C), "store 1")

Answer = Callable[["Node"], "Deferred[AddResponse]"]


class Node:
    """A node and the connection to it in one: `answer` decides what a call gets."""

    def __init__(self, cluster: Cluster, address: Address) -> None:
        self.cluster = cluster
        self.address = address
        self.answer: Answer = no_master
        self.up = True
        self.connected = False
        self.last_heard = 0.0
        self.pending: list[Deferred[AddResponse]] = []
        self.request: Any = None  # the last one

    def call(self, method: Any, request: Any, timeout: float) -> Deferred[AddResponse]:
        self.cluster.asked.append((NAMES[self.address], round(self.cluster.clock.seconds(), 6)))
        self.request = request
        if not self.up:
            return fail(RpcError(Status.UNAVAILABLE, f"connection to {self.address} lost: gone"))
        answer = self.answer(self)
        if answer.called:
            self.last_heard = self.cluster.clock.seconds()
            return answer
        self.pending.append(answer)
        timer = self.cluster.clock.callLater(
            timeout, answer.errback, RpcError(Status.DEADLINE_EXCEEDED, f"{self.address} did not answer in time")
        )
        answer.addBoth(lambda result: (timer.active() and timer.cancel(), result)[1])
        return answer

    def kill(self) -> None:
        self.up = self.connected = False
        pending, self.pending = self.pending, []
        for answer in pending:
            if not answer.called:
                answer.errback(RpcError(Status.UNAVAILABLE, f"connection to {self.address} lost: reset"))

    def count(self) -> int:
        return sum(name == NAMES[self.address] for name, _ in self.cluster.asked)


def master(node: Node) -> Deferred[AddResponse]:
    return succeed(AddResponse())


def hangs(node: Node) -> Deferred[AddResponse]:
    return Deferred()


def no_master(node: Node) -> Deferred[AddResponse]:
    return fail(RpcError(Status.NO_MASTER, "no majority"))


def says(status: Status, text: str = "because", **details: Any) -> Answer:
    return lambda node: fail(RpcError(status, text, **details))


def redirects_to(address: object) -> Answer:
    return says(Status.NOT_MASTER, "not me", redirect=str(address))


class Cluster:
    """Takes the place of the connection pool."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.asked: list[tuple[str, float]] = []
        self.connects: list[str] = []
        self.nodes = {address: Node(self, address) for address in (A, B, C)}
        self.connect_delay: dict[Address, float] = {}
        self.connect_error: dict[Address, RpcError] = {}
        self.client = MasterClient(self, self.clock, Random(7), settings=RoutingSettings(**settings))

    def existing(self, address: Address) -> Node | None:
        node = self.nodes[address]
        return node if node.connected else None

    def connection(self, address: Address) -> Deferred[Node]:
        self.connects.append(NAMES[address])
        node = self.nodes[address]
        if address in self.connect_error:
            return fail(self.connect_error[address])
        if address in self.connect_delay:
            waiting: Deferred[Node] = Deferred()
            self.clock.callLater(self.connect_delay[address], lambda: waiting.called or waiting.callback(node))
            return waiting
        if not node.up:
            text = f"{address}: connection refused (is the node running?)"
            return fail(RpcError(Status.UNAVAILABLE, text, maybe_executed=False))
        node.connected = True
        return succeed(node)

    def set(self, a: Answer, b: Answer, c: Answer) -> None:
        for node, answer in zip(self.nodes.values(), (a, b, c), strict=True):
            node.answer = answer

    def call(self, deadline_s: float = 10.0, route: Route = ROUTE, **more: Any) -> Result:
        return Result(self, self.client.call(route, ADD, AddRequest(), deadline_s, **more))

    def advance(self, seconds: float) -> None:
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end - 1e-9:
            self.clock.advance(min(0.001, end - self.clock.seconds()))


class Result:
    """What became of a call, and when."""

    def __init__(self, cluster: Cluster, call: Deferred[AddResponse]) -> None:
        self.value: Any = None
        self.at: float | None = None
        self.call = call
        self._cluster = cluster
        call.addCallbacks(self._ended, lambda failure: self._ended(failure.value))

    def _ended(self, value: Any) -> None:
        self.value = value
        self.at = self._cluster.clock.seconds()

    @property
    def error(self) -> RpcError:
        assert isinstance(self.value, RpcError), self.value
        return self.value

    @property
    def ok(self) -> bool:
        return isinstance(self.value, AddResponse)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


# ---- finding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [A, B, C])
def test_the_master_is_found_in_one_round_and_remembered(cluster: Cluster, place: Address) -> None:
    cluster.nodes[place].answer = master
    assert cluster.call().ok
    assert cluster.client.master(ROUTE) == place
    asked = len(cluster.asked)
    assert asked <= 3
    assert cluster.call().ok
    assert len(cluster.asked) == asked + 1
    assert cluster.clock.getDelayedCalls() == []


def test_a_redirect_is_followed_at_once(cluster: Cluster) -> None:
    cluster.set(redirects_to(C), redirects_to(C), master)
    assert cluster.call().ok
    assert len(cluster.asked) <= 2
    assert cluster.clock.seconds() == 0


def test_a_cached_master_that_names_another(cluster: Cluster) -> None:
    cluster.set(master, redirects_to(A), redirects_to(A))
    assert cluster.call().ok
    cluster.set(redirects_to(B), master, redirects_to(B))
    cluster.asked.clear()
    assert cluster.call().ok
    assert [name for name, _ in cluster.asked] == ["A", "B"]
    assert cluster.client.master(ROUTE) == B


def test_routes_have_their_own_masters(cluster: Cluster) -> None:
    other = Route("store:1:2:0", (A, B), "store 2")
    cluster.set(master, no_master, no_master)
    assert cluster.call().ok
    cluster.set(no_master, master, no_master)
    assert cluster.call(route=other).ok
    assert (cluster.client.master(ROUTE), cluster.client.master(other)) == (A, B)


def test_a_master_that_is_no_candidate_any_more_is_not_asked(cluster: Cluster) -> None:
    cluster.set(no_master, no_master, master)
    assert cluster.call().ok
    shrunk = Route(ROUTE.key, (A, B), "store 1")
    cluster.set(master, no_master, master)
    cluster.asked.clear()
    assert cluster.call(route=shrunk).ok
    assert "C" not in {name for name, _ in cluster.asked}


def test_the_memory_of_masters_is_bounded() -> None:
    cluster = Cluster(max_cached_routes=10)
    cluster.set(master, master, master)
    routes = [Route(f"store:1:{number}:0", (A, B, C), "x") for number in range(30)]
    for route in routes:
        assert cluster.call(route=route).ok
    assert sum(cluster.client.master(route) is not None for route in routes) == 10
    assert cluster.client.master(routes[-1]) is not None


def test_a_route_without_nodes_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="store 9 has no nodes"):
        Route("k", (), "store 9")


def test_the_same_seed_asks_in_the_same_order() -> None:
    def order() -> list[tuple[str, float]]:
        cluster = Cluster()
        cluster.call(1.0)
        cluster.advance(1.1)
        return cluster.asked

    first = order()
    assert first == order()
    assert len(first) > 10


# ---- failover ----------------------------------------------------------------------------------------------


def test_a_killed_master_is_replaced_without_the_caller_noticing_more_than_the_election(cluster: Cluster) -> None:
    cluster.set(master, redirects_to(A), redirects_to(A))
    assert cluster.call().ok
    cluster.set(hangs, redirects_to(A), redirects_to(A))
    results = [cluster.call() for _ in range(100)]
    cluster.nodes[A].kill()
    cluster.advance(0.2)
    cluster.set(hangs, no_master, no_master)
    cluster.advance(0.15)
    assert not any(result.at for result in results)
    elected = cluster.clock.seconds()
    cluster.set(hangs, master, redirects_to(B))
    cluster.advance(0.1)
    assert all(result.ok for result in results)
    assert max(result.at or 0 for result in results) - elected < 0.05
    # One call of the hundred looks for all: the nodes are left in peace while they elect.
    assert cluster.nodes[B].count() + cluster.nodes[C].count() < 100 + 100
    assert cluster.clock.getDelayedCalls() == []


@pytest.mark.parametrize("seed", range(20))
def test_the_new_master_is_found_within_a_tenth_of_the_time_there_was_none(seed: int) -> None:
    cluster = Cluster()
    cluster.client = MasterClient(cluster, cluster.clock, Random(seed))
    cluster.set(no_master, no_master, no_master)
    cluster.nodes[A].up = False
    result = cluster.call()
    cluster.advance(0.5)
    cluster.nodes[B].answer = master
    cluster.advance(0.06)
    assert result.ok


def test_a_refused_connection_costs_no_time(cluster: Cluster) -> None:
    cluster.nodes[A].up = cluster.nodes[B].up = False
    cluster.nodes[C].answer = master
    assert cluster.call().ok
    assert cluster.clock.seconds() == 0


def test_a_redirect_to_a_dead_master_is_not_followed_in_circles(cluster: Cluster) -> None:
    cluster.set(hangs, redirects_to(A), redirects_to(A))
    cluster.nodes[A].up = False
    cluster.call()
    assert sorted(name for name, _ in cluster.asked) == ["B", "C"]
    assert cluster.connects.count("A") == 1


def test_nodes_that_point_at_each_other_end_the_round() -> None:
    cluster = Cluster(max_redirects=3)
    cluster.set(redirects_to(B), redirects_to(A), no_master)
    cluster.call()
    assert len(cluster.asked) <= 3 + 3


def test_a_node_that_becomes_master_between_two_answers_is_asked_again(cluster: Cluster) -> None:
    def becomes_master(node: Node) -> Deferred[AddResponse]:
        node.answer = master
        return no_master(node)

    for first in (A, B, C):
        others = [address for address in (A, B, C) if address != first]
        cluster.nodes[first].answer = becomes_master
        for other in others:
            cluster.nodes[other].answer = redirects_to(first)
    assert cluster.call().ok
    assert cluster.clock.seconds() == 0


def test_a_hung_master_costs_one_try_timeout() -> None:
    cluster = Cluster(try_timeout_s=0.7)
    cluster.set(master, redirects_to(A), redirects_to(A))
    assert cluster.call().ok
    cluster.set(hangs, master, redirects_to(B))
    results = [cluster.call() for _ in range(5)]
    cluster.advance(0.69)
    assert not any(result.at for result in results)
    cluster.advance(0.02)
    assert all(result.ok for result in results)
    assert cluster.client.master(ROUTE) == B


def test_a_node_that_hangs_while_connecting_costs_one_try_timeout() -> None:
    cluster = Cluster(try_timeout_s=0.7)
    cluster.connect_delay = {A: 100.0, B: 100.0}
    cluster.nodes[C].answer = master
    result = cluster.call()
    cluster.advance(1.45)
    assert result.ok


def test_a_node_known_to_hang_is_asked_last_and_not_for_long() -> None:
    cluster = Cluster(try_timeout_s=0.5, silent_try_timeout_s=0.1)
    cluster.set(hangs, no_master, no_master)
    result = cluster.call()
    cluster.advance(0.6)
    cluster.asked.clear()
    cluster.advance(0.5)
    times = [at for name, at in cluster.asked if name == "A"]
    assert len(times) >= 3
    rounds = "".join(name for name, _ in cluster.asked).split("A")
    assert {"".join(sorted(others)) for others in rounds[1:-1]} == {"BC"}  # A comes after both
    cluster.nodes[C].answer = master
    cluster.advance(0.2)
    assert result.ok


def test_one_call_that_is_kept_waiting_does_not_keep_the_others_waiting(cluster: Cluster) -> None:
    """A long poll that looks for the master gets no answer from it for a long time: that is no reason to wait."""
    cluster.set(hangs, hangs, hangs)
    cluster.call(60.0, try_timeout_s=60.0)
    first = cluster.asked[0][0]
    cluster.set(master, master, master)
    result = cluster.call()
    assert result.at is None
    cluster.advance(0.051)
    assert result.ok
    assert first != cluster.asked[1][0]  # it began with a node that keeps nobody waiting


def test_many_long_polls_find_the_master_at_once(cluster: Cluster) -> None:
    """Else each of a thousand queues where nothing happens would have its turn, one after another."""
    poll, question = AddRequest(topic_id=9), AddRequest()

    def parks(node: Node) -> Deferred[AddResponse]:
        return Deferred() if node.request.topic_id else succeed(AddResponse())

    cluster.set(no_master, parks, no_master)
    for _ in range(100):
        cluster.client.call(ROUTE, ADD, poll, 65.0, try_timeout_s=60.0, searching=question)
    cluster.advance(0.001)
    assert len(cluster.nodes[B].pending) == 99, "one was answered at once, the others wait at the master"
    assert cluster.nodes[A].count() + cluster.nodes[C].count() <= 2

    cluster.set(no_master, no_master, parks)
    cluster.nodes[B].kill()
    cluster.advance(0.2)
    assert len(cluster.nodes[C].pending) == 98, "the same after a failover"


def test_a_long_poll_that_has_searched_for_long_is_answered_at_once(cluster: Cluster) -> None:
    """What is left of its time is less than it may be kept waiting at the master that is found."""
    poll, question = AddRequest(topic_id=9), AddRequest()

    def parks(node: Node) -> Deferred[AddResponse]:
        return Deferred() if node.request.topic_id else succeed(AddResponse())

    cluster.set(parks, parks, parks)
    cluster.call()  # finds the master
    cluster.set(no_master, no_master, no_master)
    results = [
        Result(cluster, cluster.client.call(ROUTE, ADD, poll, 12.0, try_timeout_s=11.0, searching=question))
        for _ in range(3)
    ]
    cluster.advance(1.5)
    cluster.set(no_master, parks, no_master)
    cluster.advance(1.0)
    assert all(result.ok for result in results)


def test_a_thousand_calls_without_a_master_ask_no_more_than_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round is asked by one call, and wakes one: the next that asks."""
    woken = 0
    change = Search.change

    def counted(search: Search, timeout: float) -> Deferred[None]:
        nonlocal woken
        woken += 1
        return change(search, timeout)

    def outage(calls: int) -> tuple[Cluster, list[Result]]:
        cluster = Cluster(no_master_patience_s=2.0)
        results = [cluster.call(60.0) for _ in range(calls)]
        cluster.advance(1.9)
        return cluster, results

    alone, _ = outage(1)
    monkeypatch.setattr(Search, "change", counted)
    cluster, results = outage(1000)
    assert len(cluster.asked) == len(alone.asked)
    assert woken <= 1000 + len(cluster.asked)
    cluster.advance(0.35)
    assert all(result.error.status is Status.UNAVAILABLE for result in results)
    assert cluster.clock.getDelayedCalls() == []


def test_a_thousand_calls_are_served_as_soon_as_there_is_a_master(cluster: Cluster) -> None:
    results = [cluster.call(60.0) for _ in range(1000)]
    cluster.advance(0.5)
    cluster.set(no_master, master, no_master)
    cluster.advance(0.2)
    assert all(result.ok for result in results)


@pytest.mark.parametrize("status", [Status.NOT_FOUND, Status.VERSION_MISMATCH, Status.FENCED])
def test_whoever_refuses_by_what_is_stored_is_the_master(cluster: Cluster, status: Status) -> None:
    cluster.set(no_master, says(status), no_master)
    assert cluster.call().error.status is status
    cluster.asked.clear()
    assert cluster.call().error.status is status
    assert [name for name, _ in cluster.asked] == ["B"]


# ---- one try -----------------------------------------------------------------------------------------------


def test_a_single_try_needs_a_master_that_is_known(cluster: Cluster) -> None:
    cluster.set(no_master, master, no_master)
    result = Result(cluster, cluster.client.call_once(ROUTE, ADD, AddRequest(), 1.0))
    assert (result.error.status, result.error.maybe_executed) == (Status.NO_MASTER, False)
    assert not cluster.client.connected(ROUTE)
    assert cluster.asked == []
    assert cluster.call().ok
    assert cluster.client.connected(ROUTE)
    assert Result(cluster, cluster.client.call_once(ROUTE, ADD, AddRequest(), 1.0)).ok


def test_a_single_try_is_not_repeated_and_its_master_is_forgotten(cluster: Cluster) -> None:
    cluster.set(no_master, master, no_master)
    assert cluster.call().ok
    cluster.nodes[B].answer = hangs
    cluster.asked.clear()
    result = Result(cluster, cluster.client.call_once(ROUTE, ADD, AddRequest(), 30.0))
    cluster.nodes[B].kill()
    assert (result.error.status, result.error.maybe_executed) == (Status.UNAVAILABLE, True)
    assert len(cluster.asked) == 1
    assert cluster.client.master(ROUTE) is None


def test_a_single_try_at_an_overloaded_master_leaves_it_known(cluster: Cluster) -> None:
    cluster.set(no_master, master, no_master)
    assert cluster.call().ok
    cluster.nodes[B].answer = says(Status.RESOURCE_EXHAUSTED)
    result = Result(cluster, cluster.client.call_once(ROUTE, ADD, AddRequest(), 1.0))
    assert result.error.status is Status.RESOURCE_EXHAUSTED
    assert cluster.client.master(ROUTE) == B


# ---- giving up ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status",
    [
        Status.INVALID_ARGUMENT,
        Status.NOT_FOUND,
        Status.PERMISSION_DENIED,
        Status.FENCED,
        Status.DATA_LOSS,
        Status.INTERNAL,
        Status.OUT_OF_RANGE,
    ],
)
def test_what_no_retry_can_mend_is_told_at_once(cluster: Cluster, status: Status) -> None:
    cluster.set(says(status), says(status), says(status))
    assert cluster.call().error.status is status
    assert len(cluster.asked) == 1
    cluster.set(master, master, master)
    assert cluster.call().ok
    cluster.set(says(status), says(status), says(status))
    assert cluster.call().error.status is status
    assert cluster.clock.getDelayedCalls() == []


def test_two_of_three_down_fails_fast_and_says_what_to_do() -> None:
    cluster = Cluster(no_master_patience_s=2.0)
    cluster.nodes[B].up = cluster.nodes[C].up = False
    cluster.nodes[A].answer = says(Status.NO_MASTER, "no majority: 1 of 3 nodes of store 1 reachable")
    result = cluster.call(60.0)
    cluster.advance(1.9)
    assert result.at is None
    cluster.advance(0.5)
    error = result.error
    assert (error.status, error.maybe_executed) == (Status.UNAVAILABLE, False)
    assert result.at == pytest.approx(2.0, abs=0.25)
    assert error.message == (
        "no master: 1 of 3 nodes of store 1 reachable (127.0.0.1:5100); start another. Seen: "
        "127.0.0.1:5100: no majority: 1 of 3 nodes of store 1 reachable; "
        "127.0.0.1:5101: connection refused (is the node running?); "
        "127.0.0.1:5102: connection refused (is the node running?)"
    )


def test_later_calls_of_an_outage_fail_faster_still_and_recovery_is_noticed() -> None:
    cluster = Cluster(no_master_patience_s=2.0)
    cluster.nodes[B].up = cluster.nodes[C].up = False
    first = cluster.call(60.0)
    cluster.advance(1.5)
    second = cluster.call(60.0)
    cluster.advance(0.8)
    assert first.error.status is second.error.status is Status.UNAVAILABLE
    cluster.nodes[B].up = True
    cluster.nodes[B].answer = master
    third = cluster.call(60.0)
    cluster.advance(0.2)
    assert third.ok


def test_all_down_and_all_up_without_master_have_their_own_advice() -> None:
    cluster = Cluster(no_master_patience_s=1.0)
    for node in cluster.nodes.values():
        node.up = False
    result = cluster.call(60.0)
    cluster.advance(1.5)
    assert "no master: 0 of 3 nodes of store 1 reachable; start 2 more." in result.error.message
    for node in cluster.nodes.values():
        node.up = True
    result = cluster.call(60.0)
    cluster.advance(1.5)
    assert "3 of 3 nodes of store 1 reachable" in result.error.message
    assert "phxqueue status" in result.error.message


def test_hung_nodes_count_as_unreachable() -> None:
    cluster = Cluster(no_master_patience_s=2.0, try_timeout_s=0.5)
    cluster.set(no_master, hangs, hangs)
    result = cluster.call(60.0)
    cluster.advance(2.8)
    assert "1 of 3 nodes of store 1 reachable (127.0.0.1:5100); start another" in result.error.message
    assert result.error.maybe_executed  # a hung node may have taken it


def test_a_slow_master_is_not_an_outage() -> None:
    """It is alive (something arrives) but this call takes long: patience is for outages, the deadline for this."""
    cluster = Cluster(no_master_patience_s=1.0, try_timeout_s=0.4)
    cluster.set(hangs, redirects_to(A), redirects_to(A))
    result = cluster.call(5.0)
    for _ in range(5000):
        cluster.clock.advance(0.001)
        cluster.nodes[A].last_heard = cluster.clock.seconds()
    error = result.error
    assert (error.status, error.maybe_executed) == (Status.DEADLINE_EXCEEDED, True)
    assert result.at == pytest.approx(5.0, abs=0.01)
    assert "store 1 did not answer Add within 5 s (it may or may not have been carried out)" in error.message


@pytest.mark.parametrize("deadline_s", [0.0, 0.05, 0.5])
def test_the_deadline_holds_whatever_happens(cluster: Cluster, deadline_s: float) -> None:
    cluster.nodes[A].up = False
    cluster.set(hangs, hangs, no_master)
    results = [cluster.call(deadline_s) for _ in range(3)]
    cluster.advance(deadline_s + 0.01)
    for result in results:
        assert result.error.status in (Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED)
        assert (result.at or 0) <= deadline_s + 0.0021
    cluster.advance(1.5)
    assert cluster.clock.getDelayedCalls() == []


def test_what_nobody_has_carried_out_is_not_tried_again_at_the_last_moment(cluster: Cluster) -> None:
    """A try that has no time for its answer would turn a sure failure into an unknown outcome."""
    cluster.nodes[A].up = cluster.nodes[B].up = False
    result = cluster.call(1.0)
    cluster.advance(0.901)
    cluster.nodes[C].answer = hangs
    cluster.advance(0.2)
    assert (result.error.status in (Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED), result.error.maybe_executed) == (
        True,
        False,
    )
    assert max(at for name, at in cluster.asked if name == "C") <= 0.9


def test_what_may_have_been_carried_out_is_tried_up_to_the_end(cluster: Cluster) -> None:
    cluster.set(says(Status.UNAVAILABLE), no_master, no_master)
    result = cluster.call(1.0)
    cluster.advance(0.95)
    cluster.nodes[B].answer = master
    cluster.advance(0.049)
    assert result.ok


def test_a_first_try_is_made_however_little_time_there_is(cluster: Cluster) -> None:
    cluster.set(master, redirects_to(A), redirects_to(A))
    assert cluster.call(0.001).ok


def test_nodes_that_do_not_accept_our_certificate_end_the_call_at_once(cluster: Cluster) -> None:
    for address in (A, B, C):
        cluster.connect_error[address] = RpcError(
            Status.UNAUTHENTICATED, f"{address}: the peer rejects our certificate"
        )
    error = cluster.call().error
    assert (error.status, error.maybe_executed) == (Status.UNAUTHENTICATED, False)
    assert "rejects our certificate" in error.message


def test_one_node_that_does_not_accept_us_is_passed_over(cluster: Cluster) -> None:
    cluster.connect_error[A] = RpcError(Status.PERMISSION_DENIED, f"{A}: expected store 1 node 0")
    cluster.nodes[C].answer = master
    assert cluster.call().ok


@pytest.mark.parametrize("target", ["127.0.0.1:9999", "nonsense"])
def test_a_redirect_out_of_the_configuration_is_refused(cluster: Cluster, target: str) -> None:
    cluster.set(redirects_to(target), redirects_to(target), redirects_to(target))
    result = cluster.call(0.3)
    cluster.advance(0.35)
    assert {name for name, _ in cluster.asked} == {"A", "B", "C"}
    assert f"says the master is {target!r}, which is no node of store 1 in our configuration" in result.error.message


# ---- overload ----------------------------------------------------------------------------------------------


def test_an_overloaded_master_is_given_the_time_it_asks_for(cluster: Cluster) -> None:
    cluster.set(master, redirects_to(A), redirects_to(A))
    assert cluster.call().ok
    cluster.nodes[A].answer = says(Status.RESOURCE_EXHAUSTED, "full", retry_after_ms=200)
    cluster.asked.clear()
    result = cluster.call()
    cluster.advance(0.19)
    assert len(cluster.asked) == 1
    cluster.nodes[A].answer = master
    cluster.advance(0.12)
    assert result.ok
    assert [name for name, _ in cluster.asked] == ["A", "A"]


def test_overload_that_outlasts_the_deadline_is_told_as_such(cluster: Cluster) -> None:
    busy = says(Status.RESOURCE_EXHAUSTED, "the add queue is full", retry_after_ms=200)
    cluster.set(busy, busy, busy)
    result = cluster.call(1.0)
    cluster.advance(1.1)
    error = result.error
    assert (error.status, error.message, error.maybe_executed) == (
        Status.RESOURCE_EXHAUSTED,
        "the add queue is full",
        False,
    )
    assert len(cluster.asked) <= 6


def test_overload_is_not_an_outage() -> None:
    cluster = Cluster(no_master_patience_s=0.5)
    cluster.set(no_master, no_master, says(Status.RESOURCE_EXHAUSTED, "full", retry_after_ms=100))
    result = cluster.call(30.0)
    cluster.advance(5.0)
    assert result.at is None
    cluster.nodes[C].answer = master
    cluster.advance(0.2)
    assert result.ok


# ---- cancellation, outcomes --------------------------------------------------------------------------------


def test_cancelling_leaves_nothing_behind(cluster: Cluster) -> None:
    cluster.set(no_master, hangs, hangs)
    results = [cluster.call() for _ in range(4)]
    cluster.advance(0.02)
    for result in results:
        result.call.cancel()
    assert all(isinstance(result.value, CancelledError) for result in results)
    for node in cluster.nodes.values():
        assert all(pending.called for pending in node.pending)
    assert cluster.clock.getDelayedCalls() == []


def test_an_error_remembers_that_an_earlier_try_may_have_been_carried_out(cluster: Cluster) -> None:
    cluster.set(master, redirects_to(A), redirects_to(A))
    assert cluster.call().ok
    cluster.set(hangs, says(Status.INVALID_ARGUMENT), says(Status.INVALID_ARGUMENT))
    result = cluster.call()
    cluster.nodes[A].kill()
    error = result.error
    assert (error.status, error.maybe_executed) == (Status.INVALID_ARGUMENT, True)


def test_an_unexpected_error_of_a_connection_is_passed_on(cluster: Cluster) -> None:
    cluster.set(master, master, master)
    assert cluster.call().ok

    def broken(node: Node) -> Deferred[AddResponse]:
        return fail(ZeroDivisionError())

    cluster.set(broken, broken, broken)
    assert isinstance(cluster.call().value, ZeroDivisionError)
