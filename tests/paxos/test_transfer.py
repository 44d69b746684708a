"""Handing the mastership over: the gap it makes, and that nobody serves from a lease that others do not honour."""

from __future__ import annotations

import pytest

from phxqueue.paxos.config import MemberKind
from phxqueue.paxos.effects import (
    BecameMaster,
    Effects,
    LostMaster,
    MastershipTransferred,
    Standing,
    TransferFailed,
)
from phxqueue.paxos.errors import NotMaster, TransferRefused, WindowFull
from phxqueue.paxos.messages import HandOver, Heartbeat, LearnRequest, Prepare, PreVote, Promise, Reject
from tests.paxos.cluster import Cluster, Node
from tests.paxos.driver import Driver, ballot, make_config, members, of_type
from tests.paxos.test_failover import make_cluster


class Watched:
    """A cluster whose events are kept."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.events: list[object] = []
        cluster.on_effects = self._keep

    def _keep(self, node: Node, out: Effects) -> None:
        self.events += out.events

    def of(self, kind: type) -> list[object]:
        return [event for event in self.events if isinstance(event, kind)]


def test_no_time_passes_between_the_masters_but_that_of_messages_and_disks() -> None:
    watched = Watched(make_cluster())
    cluster = watched.cluster
    for number in range(5):
        cluster.propose(0, b"%d" % number)
    began = cluster.time
    cluster.transfer(0, 1)
    cluster.settle()
    assert cluster.time == began
    assert cluster.master == 1
    assert watched.of(MastershipTransferred) == [MastershipTransferred(to=1)]
    assert cluster.group(1).lease_valid(cluster.time)
    assert cluster.group(1).chosen == 4
    assert not cluster.group(0).lease_valid(cluster.time)
    cluster.transfer(1, 2)
    cluster.settle()
    cluster.transfer(2, 0)
    cluster.settle()
    assert (cluster.time, cluster.master) == (began, 0)
    cluster.run(2.0)
    assert cluster.master == 0
    assert len(watched.of(LostMaster)) == 3


def test_the_gap_is_two_round_trips() -> None:
    """Counted in hops: HandOver, Prepare, Promise; then the new master proposes. The lease takes one round more."""
    cluster = make_cluster()
    cluster.transfer(0, 1)
    assert isinstance(cluster.deliver(0, 1), HandOver)
    cluster.persist(1)
    assert isinstance(cluster.deliver(1, 0), Prepare)
    assert isinstance(cluster.deliver(1, 2), Prepare)
    cluster.persist(2)
    assert isinstance(cluster.deliver(2, 1), Promise)
    assert cluster.group(1).is_master
    assert cluster.propose(1, b"at once") == 0


def test_the_old_master_serves_until_all_it_proposed_is_chosen_and_takes_nothing_new() -> None:
    cluster = make_cluster()
    cluster.propose(0, b"a")
    cluster.transfer(0, 1)
    assert cluster.group(0).is_master
    assert cluster.group(0).lease_valid(cluster.time)
    assert cluster.group(0).window_free == 0
    with pytest.raises(WindowFull):
        cluster.propose(0, b"b")
    with pytest.raises(TransferRefused, match="it is being handed over to node 1"):
        cluster.transfer(0, 2)


def test_from_the_moment_it_hands_over_it_serves_nothing() -> None:
    driver = Driver()
    b = driver.become_master()
    driver.heartbeat_reply(1, driver.now)
    driver.heartbeat_reply(2, driver.now)
    assert driver.group.lease_valid(driver.now)
    out = driver.take(driver.group.transfer(1, driver.now))
    assert out.send == [HandOver(0, 1, b, -1)]
    assert out.events == [LostMaster(ballot=b, reason="handed over to node 1")]
    assert not driver.group.lease_valid(driver.now)
    assert driver.group.master_id == 1  # where to send clients
    # Answers to its heartbeats that come now bring no lease back.
    driver.heartbeat_reply(2, driver.now)
    assert not driver.group.lease_valid(driver.now)


def test_a_transfer_that_gets_nowhere_costs_its_time_and_an_election() -> None:
    watched = Watched(make_cluster())
    cluster = watched.cluster
    cluster.transfer(0, 1)
    cluster.links[0, 1].clear()
    began = cluster.time
    while cluster.master is None:
        cluster.run(0.001)
    assert cluster.master == 0
    assert cluster.time - began <= cluster.group(0).config.transfer_timeout + 0.01
    [failed] = watched.of(TransferFailed)
    assert isinstance(failed, TransferFailed)
    assert failed.to == 1


def test_it_ends_early_when_the_process_of_the_target_is_gone() -> None:
    cluster = make_cluster()
    cluster.transfer(0, 1)
    cluster.crash(1)
    began = cluster.time
    cluster.unreachable(0, 1)
    while cluster.master is None:
        cluster.run(0.001)
    assert cluster.master == 0
    assert cluster.time - began < 0.01


def test_a_master_that_cannot_finish_what_it_proposed_goes_on_where_it_was() -> None:
    driver = Driver(make_config(step_down_after=5.0))
    driver.become_master()
    driver.heartbeat_reply(1, driver.now)
    driver.propose("a")
    driver.take(driver.group.transfer(1, driver.now))
    assert driver.group.is_master
    until = driver.now + driver.config.transfer_timeout
    events: list[object] = []
    while driver.now < until:
        events += driver.tick().events
    assert events == [TransferFailed(to=1, reason="it did not take over in time")]
    assert driver.group.is_master
    assert driver.propose("b") == 1


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        (0, "node 0 is no other voter"),
        (3, "node 3 is no other voter"),
        (4, "node 4 is no other voter"),
        (9, "node 9 is no other voter"),
        (2, "node 2 has not been heard"),
    ],
)
def test_who_cannot_take_over_is_refused_and_nothing_stops(to: int, reason: str) -> None:
    who = members(5, n3=MemberKind.WITNESS, n4=MemberKind.LEARNER)
    driver = Driver(make_config(0, members=who))
    driver.become_master()
    driver.group._peers.by_node[2].heard_at = driver.now - 1
    with pytest.raises(TransferRefused, match=reason):
        driver.group.transfer(to, driver.now)
    assert driver.group.transfer_problem(to, driver.now) is not None
    assert driver.group.window_free > 0


def test_who_lags_is_refused() -> None:
    cluster = make_cluster(window=4, accept_ahead=8)
    cluster.cut.add((0, 1))
    for number in range(8):
        cluster.propose(0, b"%d" % number)
        cluster.settle()
    with pytest.raises(TransferRefused, match="node 1 has up to instance -1 of 7: wait until it has caught up"):
        cluster.transfer(0, 1)
    with pytest.raises(NotMaster):
        cluster.transfer(1, 0)


def test_who_could_not_serve_says_so_and_is_offered_nothing() -> None:
    cluster = make_cluster()
    cluster.group(1).stand_aside("it is stopping", cluster.time)
    cluster.group(2).busy(True)
    cluster.run(0.2)
    for node in (1, 2):
        with pytest.raises(TransferRefused, match="could not serve now"):
            cluster.transfer(0, node)
    cluster.group(2).busy(False)
    cluster.run(0.2)
    cluster.transfer(0, 2)
    cluster.settle()
    assert cluster.master == 2


def test_a_refusal_costs_next_to_no_time() -> None:
    """The master did not know yet that the other is about to stop, too."""
    watched = Watched(make_cluster())
    cluster = watched.cluster
    cluster.group(1).stand_aside("it is stopping", cluster.time)
    cluster.transfer(0, 1)
    began = cluster.time
    while not watched.of(TransferFailed) or cluster.master is None:
        cluster.run(0.001)
    assert cluster.master == 0
    assert cluster.time - began < 0.01


def test_who_has_just_restarted_is_offered_nothing_before_its_lease_is_over() -> None:
    """It would not stand, for it does not know whom it is bound to."""
    cluster = make_cluster()
    cluster.crash(1)
    cluster.start(1)
    cluster.run(cluster.group(0).config.heartbeat_interval * 2)
    with pytest.raises(TransferRefused, match="could not serve now"):
        cluster.transfer(0, 1)
    cluster.run(cluster.group(0).config.lease)
    cluster.transfer(0, 1)
    cluster.settle()
    assert cluster.master == 1


def test_who_could_not_serve_yet_stands_all_the_same_when_there_is_no_master() -> None:
    """Perhaps there is no other."""
    cluster = make_cluster()
    cluster.group(1).busy(True)
    cluster.group(2).stand_aside("it is stopping", cluster.time)
    cluster.crash(0)
    cluster.run(2.0)
    assert cluster.master == 1


def handed_over(driver: Driver, chosen: int) -> Effects:
    """The driver's node 1 follows node 0, which hands over to it."""
    b = ballot(1, 0)
    driver.heartbeat(0, b)
    return driver.step(HandOver(0, 1, b, chosen))


def test_the_target_learns_what_it_lacks_before_it_stands() -> None:
    driver = Driver(make_config(1), start=20.0)
    driver.now += 1
    out = handed_over(driver, 0)
    assert of_type(out.events, Standing) == []
    [asked] = of_type(out.send, LearnRequest)
    assert asked.receiver == 0
    driver.accept(0, ballot(1, 0), (0, "a"), chosen=0)
    assert of_type(driver.last.events, Standing) == [Standing(ballot=ballot(2, 1))]
    assert of_type(driver.last.send, PreVote) == []


def test_the_target_forgets_it_after_a_while() -> None:
    driver = Driver(make_config(1), start=20.0)
    driver.now += 1
    handed_over(driver, 0)
    driver.now += driver.config.lease + 0.01
    driver.accept(0, ballot(1, 0), (0, "a"), chosen=0)
    assert of_type(driver.last.events, Standing) == []


def test_a_target_that_is_bound_to_nobody_knows_whom_does_not_stand() -> None:
    """It restarted a moment ago: it may have answered a heartbeat of any ballot."""
    driver = Driver(make_config(1), start=20.0)
    out = driver.step(HandOver(0, 1, ballot(1, 0), -1))
    assert of_type(out.events, Standing) == []
    # A heartbeat that was under way does not make it forget that.
    driver.now += driver.config.lease - 0.01
    driver.heartbeat(0, ballot(1, 0))
    assert driver.group.promised == 0


@pytest.mark.parametrize(
    ("bound_at", "released", "promised"),
    [
        (ballot(5, 0), ballot(5, 0), True),
        (ballot(6, 0), ballot(5, 0), False),  # the same node, master anew
        (ballot(6, 2), ballot(5, 0), False),
        (ballot(5, 0), 0, False),
        (ballot(5, 0), ballot(6, 0), False),  # bound to the former, whatever came after it
    ],
)
def test_what_is_released_is_what_was_given_to_that_ballot(bound_at: int, released: int, promised: bool) -> None:
    driver = Driver(make_config(3, size=5))
    driver.now += 1
    driver.heartbeat(bound_at & 0xFFFF, bound_at)
    out = driver.step(Prepare(1, 3, ballot(9, 1), 0, released))
    assert bool(of_type(out.send_after, Promise)) == promised
    assert bool(of_type(out.send, Reject)) != promised


def test_after_a_restart_a_release_counts_for_nothing() -> None:
    driver = Driver(make_config(2))
    out = driver.step(Prepare(1, 2, ballot(9, 1), 0, ballot(5, 0)))
    assert of_type(out.send_after, Promise) == []
    [refused] = of_type(out.send, Reject)
    assert refused.wait == pytest.approx(driver.config.lease)


def test_a_hand_over_at_an_old_ballot_is_refused() -> None:
    driver = Driver(make_config(1), start=20.0)
    driver.now += 1
    driver.heartbeat(2, ballot(5, 2))
    out = driver.step(HandOver(0, 1, ballot(1, 0), -1))
    assert of_type(out.events, Standing) == []
    assert len(of_type(out.send, Reject)) == 1


def test_a_late_hand_over_cannot_bring_about_two_leases() -> None:
    """It arrives when the old master has a lease again; the node it was meant for stands, and gets a majority only when
    no lease is in its way.
    """
    cluster = make_cluster()
    cluster.transfer(0, 1)
    late = cluster.links[0, 1].popleft()
    cluster.cut.update({(0, 1), (1, 0)})
    while cluster.master is None:
        cluster.run(0.001)
    cluster.run(0.05)
    assert cluster.group(0).lease_valid(cluster.time)
    cluster.links[0, 1].append(late)
    cluster.settle()
    assert cluster.group(0).lease_valid(cluster.time)
    assert not cluster.group(1).is_master


def test_heartbeats_of_the_new_master_reach_the_old_one_before_its_time_is_up() -> None:
    cluster = make_cluster()
    cluster.transfer(0, 1)
    cluster.settle()
    out = cluster.group(0).step(Heartbeat(1, 0, cluster.group(1).ballot, -1, cluster.time, 1), cluster.time)
    assert of_type(out.events, BecameMaster) == []
    cluster.run(1.0)
    assert cluster.master == 1
