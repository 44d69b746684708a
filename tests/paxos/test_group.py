"""The public face: what it refuses, what it tells of itself, and every role against every message."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from phxqueue.paxos.ballot import node_of
from phxqueue.paxos.config import MemberKind
from phxqueue.paxos.effects import MessageIgnored
from phxqueue.paxos.errors import InvariantViolation, NotMaster
from phxqueue.paxos.messages import (
    Accept,
    Accepted,
    Heartbeat,
    HeartbeatReply,
    LearnReply,
    LearnRequest,
    Message,
    Prepare,
    PreVote,
    PreVoteReply,
    Promise,
    Reject,
)
from phxqueue.paxos.peers import MAX_STRANGERS
from tests.paxos.driver import Driver, ballot, make_config, members, of_type, value


@pytest.mark.parametrize(("sender", "receiver"), [(0, 0), (1, 2)])
def test_messages_of_this_node_or_for_others_are_dropped_and_counted(sender: int, receiver: int) -> None:
    driver = Driver(make_config(0))
    out = driver.step(Heartbeat(sender, receiver, ballot(5, sender), 3, 0.0, 1))
    assert out.send == []
    assert driver.group.ignored == 1
    assert out.events == [MessageIgnored(sender=sender, reason="Heartbeat: not from another node to this one")]
    assert driver.group.ballot == 0


def test_nodes_that_are_no_members_here_may_be_elsewhere_but_not_too_many_of_them() -> None:
    driver = Driver(make_config(0))
    for sender in range(3, 3 + MAX_STRANGERS):
        [reply] = driver.heartbeat(sender, ballot(sender, sender)).send
        assert isinstance(reply, HeartbeatReply)
    out = driver.heartbeat(99, ballot(99, 99))
    assert out.send == []
    [event] = out.events
    assert isinstance(event, MessageIgnored)
    assert "too many such nodes" in event.reason
    assert len(driver.group.peers) == 2 + MAX_STRANGERS


@pytest.mark.parametrize("kind", [PreVote, Prepare])
def test_a_ballot_of_somebody_else_is_dropped(kind: type[Message]) -> None:
    driver = Driver(make_config(0))
    driver.now += 1
    out = driver.step(kind(1, 0, ballot(5, 2), -1))  # type: ignore[call-arg]
    assert (out.send, out.send_after, out.persist) == ([], [], [])
    assert out.events == [MessageIgnored(sender=1, reason=f"{kind.__name__}: ballot {ballot(5, 2)} belongs to node 2")]
    assert driver.group.ignored == 1


def test_heartbeats_and_accepts_at_a_ballot_of_somebody_else_are_dropped() -> None:
    driver = Driver(make_config(0))
    assert driver.heartbeat(1, ballot(5, 2)).send == []
    assert driver.accept(1, ballot(5, 2), (0, "a")).persist == []
    assert driver.group.ignored == 2


def test_time_does_not_go_back() -> None:
    driver = Driver(make_config(0), start=10.0)
    driver.group.tick(10.0)
    with pytest.raises(InvariantViolation, match=r"monotonic clock went back from 10\.0 to 9\.9"):
        driver.group.tick(9.9)


def test_a_follower_names_the_master_it_heard() -> None:
    driver = Driver(make_config(0))
    with pytest.raises(NotMaster, match="no master is known"):
        driver.propose("a")
    driver.heartbeat(2, ballot(1, 2))
    with pytest.raises(NotMaster, match="ask node 2") as caught:
        driver.propose("a")
    assert caught.value.master_id == 2
    assert (driver.group.in_flight, driver.group.window_free, driver.group.lease_until) == (0, 0, float("-inf"))


def test_peers_tell_how_far_they_are_and_what_they_understand() -> None:
    driver = Driver(make_config(0, version=3))
    assert driver.group.lowest_version == 0
    driver.become_master()
    driver.step(HeartbeatReply(1, 0, driver.group.ballot, 7, driver.now, 2))
    assert driver.group.lowest_version == 0  # node 2 has not told
    driver.step(HeartbeatReply(2, 0, driver.group.ballot, 5, driver.now, 4))
    assert driver.group.lowest_version == 2
    driver.step(HeartbeatReply(1, 0, driver.group.ballot, 7, driver.now, 5))
    assert driver.group.lowest_version == 3  # this node's own
    peer = driver.group.peers[1]
    assert (peer.chosen, peer.heard_at, peer.unreachable) == (7, driver.now, False)
    driver.step(HeartbeatReply(1, 0, driver.group.ballot, 6, driver.now, 2))  # late
    assert peer.chosen == 7
    assert of_type(driver.tick().send, Heartbeat)[0].version == 3


def test_a_lone_voters_version_is_its_own() -> None:
    assert Driver(make_config(0, size=1, version=3)).group.lowest_version == 3


def test_the_same_calls_have_the_same_effects() -> None:
    def story(seed: int) -> list[str]:
        driver = Driver(make_config(0), seed=seed)
        told = []
        for _ in range(30):
            told.append(repr(driver.tick()))
            told.append(repr(driver.step(PreVoteReply(1, 0, 1 << 16, False, 0, -1, 0.0))))
            told.append(repr(driver.group.next_deadline()))
        return told

    assert story(1) == story(1)
    assert story(1) != story(2)


# -- every role, every message, every ballot
# ------------------------------------------------------------------------------


def follower() -> Driver:
    driver = Driver(make_config(1))
    driver.heartbeat(0, MASTER)
    driver.accept(0, MASTER, (0, "a"))
    driver.persist()
    driver.now += 1.0
    return driver


def pre_candidate() -> Driver:
    driver = follower()
    driver.tick()
    return driver


def candidate() -> Driver:
    driver = follower()
    driver.stand()
    return driver


def master() -> Driver:
    driver = follower()
    driver.become_master()
    driver.persist()
    return driver


def witness() -> Driver:
    driver = Driver(make_config(1, members=members(3, n1=MemberKind.WITNESS)))
    driver.heartbeat(0, MASTER)
    driver.persist() if driver.pending else None
    driver.now += 1.0
    return driver


def learner() -> Driver:
    driver = Driver(make_config(1, members=members(4, n1=MemberKind.LEARNER)))
    driver.heartbeat(0, MASTER)
    driver.now += 1.0
    return driver


MASTER = ballot(3, 0)
ROLES: dict[str, Callable[[], Driver]] = {
    "follower": follower,
    "pre-candidate": pre_candidate,
    "candidate": candidate,
    "master": master,
    "witness": witness,
    "learner": learner,
}
AT = {"lower": ballot(2, 0), "same": MASTER, "higher": ballot(9, 0)}
MESSAGES: dict[str, Callable[[int], Message]] = {
    "PreVote": lambda b: PreVote(0, 1, b, 5),
    "PreVoteReply": lambda b: PreVoteReply(0, 1, b, True, b, 0, 0.0),
    "Prepare": lambda b: Prepare(0, 1, b, 0),
    "Promise": lambda b: Promise(0, 1, b, 0, 0, True, -1, ((0, value(ballot(1, 2), "x")),)),
    "Accept": lambda b: Accept(0, 1, b, -1, ((3, value(b, "x")),)),
    "Accepted": lambda b: Accepted(0, 1, b, 0, 0, -1),
    "Reject": lambda b: Reject(0, 1, b, b, 0.0),
    "Heartbeat": lambda b: Heartbeat(0, 1, b, -1, 0.0, 1),
    "HeartbeatReply": lambda b: HeartbeatReply(0, 1, b, -1, 0.0, 1),
    "LearnRequest": lambda b: LearnRequest(0, 1, 0, 100),
    "LearnReply": lambda b: LearnReply(0, 1, 0, 0, ((0, value(MASTER, "a")),)),
}
UNSEATS = {
    # What makes a node that stands or leads a follower, and at which ballots. A pre-candidate has raised no ballot
    # yet, so its former master may come back to it; a candidate and a master are bound to their own, which is above
    # that.
    ("pre-candidate", "Prepare"): {"higher"},
    ("pre-candidate", "PreVote"): {"higher"},
    ("pre-candidate", "Accept"): {"same", "higher"},
    ("pre-candidate", "Heartbeat"): {"same", "higher"},
    ("candidate", "Prepare"): {"higher"},
    ("candidate", "Accept"): {"higher"},
    ("candidate", "Heartbeat"): {"higher"},
    ("master", "Accept"): {"higher"},
    ("master", "Heartbeat"): {"higher"},
}


@pytest.mark.parametrize("role", ROLES)
def test_every_message_at_every_ballot(role: str) -> None:
    for name, make in MESSAGES.items():
        for at, b in AT.items():
            driver = ROLES[role]()
            before = driver.group.promised
            seat = driver.group.role.value
            out = driver.step(make(b))
            where = f"{role} <- {name} at a {at} ballot"
            # A promise never goes down, and what is said about one is said when it is durable.
            assert driver.group.promised >= before, where
            if driver.group.promised > before:
                assert out.token is not None, where
            assert not of_type(out.send, Promise) or driver.group._acceptor.durable_promise == b, where
            # Nothing is accepted below the promise.
            if name == "Accept" and b < before:
                assert out.persist == [], where
            # The role changes as stated, and in no other way.
            expected = "follower" if at in UNSEATS.get((role, name), ()) else seat
            assert driver.group.role.value == expected, where
            # Everybody stays in order: time may pass, and what was written may become durable.
            if driver.pending:
                driver.persist()
            driver.tick(driver.now)


def test_a_message_that_seats_nobody_new_leaves_the_hint_alone() -> None:
    driver = follower()
    for name in ("PreVoteReply", "Promise", "Accepted", "Reject", "HeartbeatReply", "LearnRequest", "LearnReply"):
        driver.step(MESSAGES[name](AT["higher"]))
    assert driver.group.master_id == node_of(MASTER)
    assert driver.group.ballot == MASTER
