"""Changing the members of a running group: what is refused, what must hold meanwhile, what nodes do that miss it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phxqueue.paxos.config import GroupConfig, Member, MemberKind, Restored
from phxqueue.paxos.effects import (
    BecameMaster,
    ChangeVoid,
    MembershipChanged,
    MembershipEffective,
    MembershipRecord,
    MembershipSettled,
)
from phxqueue.paxos.entry import Entry, EntryKind, make_entry
from phxqueue.paxos.errors import ChangeRefused, InvariantViolation, NotMaster
from phxqueue.paxos.members_codec import Change, encode_change
from phxqueue.paxos.messages import Accept, Accepted, LearnReply, LearnRequest, Prepare, PreVote, PreVoteReply, Promise
from tests.paxos.cluster import Cluster
from tests.paxos.driver import Driver, ballot, make_config, members, of_type, value

VOTER, WITNESS, LEARNER = MemberKind.VOTER, MemberKind.WITNESS, MemberKind.LEARNER
SMALL = {"window": 4, "accept_ahead": 8}


def make_cluster(size: int = 3, spares: int = 1, **settings: int) -> Cluster:
    """Node 0 is master; the spare nodes are up, with fresh disks; which disks the members have is on record."""
    settings = {**SMALL, **settings}
    configs = [
        GroupConfig(group_id=0, node_id=node, incarnation=10 * node + 10, members=members(size), **settings)  # type: ignore[arg-type]
        for node in range(size + spares)
    ]
    cluster = Cluster(configs)
    for node in range(size, size + spares):
        cluster.nodes[node].disk.may_vote = False
    cluster.start_all()
    cluster.run(0.7)
    assert cluster.master == 0
    cluster.change_one(0, 0, VOTER)
    settle(cluster)
    return cluster


def settle(cluster: Cluster) -> None:
    cluster.run(0.4)
    master = cluster.master
    assert master is not None
    assert cluster.group(master).settled


def change(cluster: Cluster, node: int, kind: MemberKind | None) -> None:
    """Change one member and wait until the change is settled."""
    assert cluster.master is not None
    cluster.change_one(cluster.master, node, kind)
    settle(cluster)


def add(cluster: Cluster, node: int, kind: MemberKind = VOTER) -> None:
    change(cluster, node, LEARNER)
    change(cluster, node, kind)


def alive(cluster: Cluster) -> None:
    """The group chooses, and everybody who is up and a member gets it."""
    assert cluster.master is not None
    instance = cluster.propose(cluster.master, b"alive")
    cluster.run(0.3)
    for member in cluster.group(cluster.master).members:
        if cluster.nodes[member.node_id].up:
            assert cluster.group(member.node_id).chosen >= instance


# -- what is done -----------------------------------------------------------------------------------------------------


def test_from_three_to_five_and_back_under_way_all_the_time() -> None:
    cluster = make_cluster(3, 2)
    for node in (3, 4):
        add(cluster, node)
        alive(cluster)
    assert len(cluster.group(4).members) == 5
    cluster.crash(0)
    cluster.crash(1)
    cluster.run(1.5)
    alive(cluster)  # three of five
    cluster.start_all()
    cluster.run(0.5)
    for node in (0, 1):
        change(cluster, node, None)
        cluster.run(1.0)
        alive(cluster)
    assert {member.node_id for member in cluster.group(4).members} == {2, 3, 4}


def test_every_node_may_be_exchanged_for_another_and_nothing_is_lost() -> None:
    cluster = make_cluster(3, 3)
    for old, new in ((0, 3), (1, 4), (2, 5)):
        alive(cluster)
        add(cluster, new)
        change(cluster, old, None)
        cluster.run(0.5)
        cluster.crash(old)
        cluster.run(1.0)
    alive(cluster)
    master = cluster.master
    assert master in (3, 4, 5)
    assert cluster.nodes[master].applied.count(b"alive") == 4


def test_a_witness_and_a_learner_may_become_what_they_are_not() -> None:
    cluster = make_cluster(3)
    add(cluster, 3, WITNESS)
    assert cluster.group(3).votes
    assert not cluster.group(3).may_lead
    change(cluster, 3, VOTER)
    assert cluster.group(3).may_lead
    change(cluster, 3, LEARNER)
    assert not cluster.group(3).votes
    alive(cluster)


def test_an_idle_group_changes_its_members_too() -> None:
    cluster = make_cluster(window=64, accept_ahead=128)
    before = cluster.group(0).chosen
    cluster.change_one(0, 3, LEARNER)
    cluster.settle()
    assert cluster.group(0).chosen == before + 64
    assert len(cluster.group(0).members) == 4


def test_a_change_of_mere_information_goes_the_same_way() -> None:
    cluster = make_cluster()
    who = tuple(replace(member, info=b"host:%d" % member.node_id) for member in cluster.group(0).members)
    cluster.change(0, who)
    settle(cluster)
    assert cluster.group(2).members == who
    cluster.crash(2)
    cluster.start(2)
    assert cluster.group(2).members == who


def test_a_restart_remembers_the_members_and_what_is_pending() -> None:
    cluster = make_cluster(3)
    cluster.cut.update({(2, 0), (2, 1)})  # node 2 hears, but is not heard
    cluster.change_one(0, 3, LEARNER)
    cluster.run(0.05)
    for node in range(3):
        cluster.crash(node)
    cluster.cut.clear()
    for node in range(3):
        cluster.start(node)
        # The chosen mark may lag behind: then the change is pending again, but not forgotten.
        group = cluster.group(node)
        assert len(group.pending_members or group.members) == 4
    cluster.run(1.0)
    settle(cluster)
    assert len(cluster.group(0).members) == 4
    alive(cluster)


def test_a_removed_master_finishes_the_change_and_hands_over() -> None:
    cluster = make_cluster(3)
    began = cluster.time
    cluster.change_one(0, 0, None)
    cluster.settle()
    assert cluster.time == began
    assert cluster.master == 1
    assert {member.node_id for member in cluster.group(1).members} == {1, 2}
    cluster.run(3.0)
    assert cluster.master == 1
    assert not cluster.group(0).votes
    alive(cluster)


def test_a_node_that_was_down_when_it_was_removed_is_told_and_stands_no_more() -> None:
    cluster = make_cluster(4, 0)
    cluster.crash(3)
    cluster.run(0.5)
    change(cluster, 3, None)
    alive(cluster)
    cluster.run(3.0)
    cluster.start(3)
    cluster.run(2.0)
    assert cluster.master == 0
    assert {member.node_id for member in cluster.group(3).members} == {0, 1, 2}
    assert cluster.group(3).next_deadline() == float("inf")


def test_the_last_one_may_add_another_and_leave() -> None:
    cluster = make_cluster(1, 1)
    add(cluster, 1)
    alive(cluster)
    change(cluster, 0, None)
    cluster.run(0.5)
    cluster.crash(0)
    cluster.run(1.0)
    assert cluster.master == 1
    alive(cluster)


# -- what is refused --------------------------------------------------------------------------------------------------


def test_what_is_no_membership_is_refused() -> None:
    cluster = make_cluster()
    now = cluster.time
    who = cluster.group(0).members
    for wanted, reason in (
        ((*who, who[0]), "name a node twice"),
        ((replace(who[0], kind=WITNESS),), "no voter"),
        (who, "these are the members already"),
        (who[:1], r"changes the votes of nodes \[1, 2\]: change one at a time"),
        ((*who, Member(3, incarnation=40)), "node 3 is no member: add it as a learner first"),
        ((*who[:2], replace(who[2], incarnation=77)), "node 2 runs on incarnation 30, not on 77"),
        ((*who[:2], replace(who[2], incarnation=0)), "node 2 runs on incarnation 30: that must be recorded"),
        ((*who, Member(9, LEARNER, incarnation=1)), "node 9 has not said what it runs on, not on 1"),
    ):
        with pytest.raises(ChangeRefused, match=reason):
            cluster.group(0).change_members(wanted, now)
    with pytest.raises(NotMaster):
        cluster.group(1).change_members(who[:2], now)


def test_one_change_at_a_time_until_it_is_settled() -> None:
    cluster = make_cluster(3, 2)
    cluster.change_one(0, 3, LEARNER)
    with pytest.raises(ChangeRefused, match="another change is on its way"):
        cluster.change_one(0, 4, LEARNER)
    for link in [(0, 1), (0, 2)]:
        cluster.deliver(*link)
    for node in (0, 1, 2):
        cluster.persist(node)
    cluster.deliver(1, 0)
    assert cluster.group(0).pending_members is not None
    with pytest.raises(ChangeRefused, match="is not in force before instance"):
        cluster.change_one(0, 4, LEARNER)
    cluster.settle()
    assert cluster.group(0).pending_members is None
    with pytest.raises(ChangeRefused, match="no majority has everything from before it yet"):
        cluster.change_one(0, 4, LEARNER)
    settle(cluster)
    cluster.change_one(0, 4, LEARNER)


def test_a_learner_that_lags_gets_no_vote() -> None:
    cluster = make_cluster()
    change(cluster, 3, LEARNER)
    cluster.cut.add((0, 3))
    for _ in range(8):
        cluster.propose(0, b"x")
        cluster.settle()
    with pytest.raises(ChangeRefused, match=r"node 3 has the log up to .*: wait until it has caught up"):
        cluster.change_one(0, 3, VOTER)


def test_what_would_lose_the_majority_is_refused() -> None:
    cluster = make_cluster(4, 0)
    cluster.crash(3)
    cluster.run(0.5)
    cluster.change_one(0, 3, None)  # the dead one may go
    settle(cluster)
    cluster.crash(2)
    cluster.run(0.5)
    with pytest.raises(
        ChangeRefused, match="1 of 2 voters would be there, a majority is 2: node 2 is not heard"
    ) as refused:
        cluster.change_one(0, 1, None)
    assert not refused.value.temporary
    cluster.change_one(0, 2, None)
    settle(cluster)
    alive(cluster)


def test_a_master_that_was_asleep_cannot_judge_who_is_there() -> None:
    """Chaos with real processes found it: it was stopped, and asked before it had heard anybody again."""
    cluster = make_cluster(4, 0)
    who = cluster.group(0).members
    with pytest.raises(ChangeRefused, match="is not heard") as refused:
        cluster.group(0).change_members(who[:3], cluster.time + 5.0)
    assert refused.value.temporary


def test_somebody_must_be_left_who_can_lead() -> None:
    """A storm found it: the only other voter had lost its disk when the master made itself a witness."""
    cluster = make_cluster(3, 0)
    change(cluster, 2, WITNESS)
    cluster.empty(1)
    cluster.start(1)
    cluster.run(0.5)
    with pytest.raises(ChangeRefused, match="nobody who is left could become master: node 1 does not run on"):
        cluster.change_one(0, 0, WITNESS)


def test_directories_that_are_not_on_record_may_not_be_the_right_ones() -> None:
    """A storm found it: a vote was taken away while another node, not on record yet, had lost its disk."""
    configs = [
        GroupConfig(group_id=0, node_id=node, incarnation=10 * node + 10, members=members(4), window=4, accept_ahead=8)
        for node in range(4)
    ]
    cluster = Cluster(configs)
    cluster.start_all()
    cluster.run(0.7)
    cluster.empty(3)
    cluster.start(3)
    cluster.run(0.3)
    who = cluster.group(0).members
    with pytest.raises(ChangeRefused, match=r"0 of 3 voters would be there.*node 3 is not recorded yet"):
        cluster.group(0).change_members((who[0], who[1], who[3]), cluster.time)


# -- emptied disks ----------------------------------------------------------------------------------------------------


def test_an_emptied_disk_makes_no_majority_and_is_replaced() -> None:
    cluster = make_cluster(3, 0)
    cluster.empty(2)
    cluster.start(2)
    cluster.run(0.5)
    cluster.crash(1)
    instance = cluster.propose(0, b"lonely")
    cluster.run(1.5)
    assert cluster.group(0).chosen < instance
    assert not cluster.group(0).lease_valid(cluster.time)
    assert cluster.master is None  # nobody answers that counts
    cluster.start(1)
    cluster.run(1.5)
    change(cluster, 2, VOTER)
    cluster.crash(1)
    cluster.run(0.5)
    alive(cluster)


def test_before_anything_is_on_record_a_fresh_directory_does_not_vote_by_itself() -> None:
    driver = Driver(make_config(1, incarnation=21), Restored(may_vote=False))
    driver.now += 1
    assert not driver.pre_vote(0, ballot(1, 0)).granted
    assert driver.prepare(0, ballot(1, 0)).persist == []
    [answer] = driver.accept(0, ballot(1, 0), (0, "a")).send
    assert answer == Accepted(1, 0, ballot(1, 0), 0, -1, -1)
    assert of_type(driver.last.send_after, Accepted) == []
    driver.persist()
    assert not driver.stands()
    driver.take(driver.group.admit(driver.now))
    assert driver.accept(0, ballot(1, 0), (0, "a")).send == [Accepted(1, 0, ballot(1, 0), 0, 0, -1)]


def on_record(node: int, own: int | None = None, **settings: object) -> Driver:
    who = tuple(Member(n, incarnation=10 * n + 10) for n in range(3))
    driver = Driver(make_config(node, members=who, incarnation=own or 10 * node + 10, **settings))
    for other in range(3):
        if other != node:
            driver.take(driver.group.peer_incarnation(other, 10 * other + 10, driver.now))
    return driver


def test_the_votes_of_another_directory_count_for_nothing() -> None:
    driver = on_record(0)
    driver.take(driver.group.peer_incarnation(1, 21, driver.now))
    b = None
    driver.tick()
    [asked, _] = of_type(driver.last.send, PreVote)
    driver.grant(1, asked.ballot)
    assert driver.pending == []
    driver.grant(2, asked.ballot)
    b = driver.group.promised
    driver.persist()
    driver.promise(1, b)
    assert not driver.group.is_master
    driver.promise(2, b)
    assert driver.group.is_master
    driver.heartbeat_reply(1, driver.now)
    assert not driver.group.lease_valid(driver.now)
    instance = driver.propose("a")
    driver.persist()
    driver.accepted(1, b, instance)
    assert driver.group.chosen == -1
    driver.accepted(2, b, instance)
    assert driver.group.chosen == instance
    driver.heartbeat_reply(2, driver.now)
    assert driver.group.lease_valid(driver.now)


def test_a_promise_is_forgotten_with_the_directory_that_gave_it() -> None:
    driver = on_record(0)
    b = driver.stand()
    driver.take(driver.group.peer_incarnation(1, 21, driver.now))
    driver.take(driver.group.peer_incarnation(1, 20, driver.now))
    assert not driver.group.is_master
    driver.promise(2, b)
    assert driver.group.is_master
    assert not driver.group._roles.proposer.phase1.covers(  # type: ignore[union-attr]
        replace_electors(driver, {0, 1})
    )


def replace_electors(driver: Driver, nodes: set[int]):  # type: ignore[no-untyped-def]
    view = driver.group._membership.current
    view.electors = frozenset(nodes)
    return view


def test_what_a_former_directory_told_of_itself_is_forgotten() -> None:
    driver = on_record(0)
    driver.heartbeat(1, ballot(1, 1), chosen=7)
    assert driver.group.peers[1].chosen == 7
    driver.take(driver.group.peer_incarnation(1, 21, driver.now))
    assert driver.group.peers[1].chosen is None


# -- the protocol -----------------------------------------------------------------------------------------------------


def change_entry(b: int, base: int, who: tuple[Member, ...], delay: int = 4) -> Entry:
    return make_entry(b, EntryKind.MEMBERSHIP, encode_change(Change(base, delay, who)))


def become_master_knowing(driver: Driver, who: tuple[Member, ...]) -> int:
    """The change to ``who`` at instance 0 is chosen already, but not in force."""
    b = ballot(1, 2)
    driver.step(LearnReply(2, driver.me, 0, 0, ((0, change_entry(b, -1, who)),)))
    driver.persist()
    assert driver.group.pending_members == who
    return driver.become_master()


def test_nothing_is_proposed_under_the_new_members_before_a_majority_of_them_has_promised() -> None:
    """With nodes 0 and 1 of three behind it, the master needs one more of four."""
    driver = Driver(make_config(0, **SMALL))
    b = become_master_knowing(driver, members(4))
    proposed = {instance for message in of_type(driver.last.send, Accept) for instance, _ in message.entries}
    assert proposed == {1, 2, 3}  # no-ops up to where the change takes effect
    assert driver.group.window_free == 0
    asked = of_type(driver.last.send, Prepare)
    assert {message.receiver for message in asked} == {2, 3}
    driver.persist()
    driver.accepted(1, b, 1, 3)
    assert driver.group.members == members(4)
    assert driver.group.window_free == 0
    assert not driver.group.lease_valid(driver.now)
    driver.promise(3, b, first=asked[-1].first, chosen=3)
    assert driver.group.window_free == 4
    instance = driver.propose("under four")
    driver.persist()
    driver.accepted(1, b, instance)
    assert driver.group.chosen == 3  # two of four are no majority
    driver.accepted(3, b, instance)
    assert driver.group.chosen == instance


def test_what_only_a_new_member_reports_is_proposed_again() -> None:
    """Some master before got this far with the new members, and as far as node 3; it may have been chosen."""
    driver = Driver(make_config(0, **SMALL))
    b = become_master_knowing(driver, members(4))
    [*_, asked] = of_type(driver.last.send, Prepare)
    driver.persist()
    driver.accepted(1, b, 1, 3)
    driver.promise(3, b, (5, value(ballot(1, 1), "seen")), first=asked.first, chosen=0)
    proposed = [(i, entry) for message in of_type(driver.last.send, Accept) for i, entry in message.entries]
    assert {i for i, _ in proposed} == {4, 5}
    assert value(b, "seen") in [entry for i, entry in proposed if i == 5]
    assert driver.group._roles.proposer.first_instance == 6  # type: ignore[union-attr]


def test_a_master_never_proposes_beyond_the_window_above_what_it_handed_out() -> None:
    """Further up a change that it has not learned yet might govern."""
    driver = Driver(make_config(0, **SMALL))
    driver.become_master(chosen=20)
    assert driver.group.window_free == 0
    entries = tuple((i, value(ballot(1, 2), str(i))) for i in range(18))
    driver.step(LearnReply(1, 0, 0, 20, entries))
    driver.persist()
    assert (driver.group.chosen, driver.group.window_free) == (17, 1)
    assert driver.propose("next") == 21


def test_a_change_is_recorded_before_the_mark_that_covers_it() -> None:
    driver = Driver(make_config(1, **SMALL))
    b = ballot(1, 0)
    who = members(4)
    driver.step(Accept(0, 1, b, -1, ((0, change_entry(b, -1, who)),)))
    driver.persist()
    driver.heartbeat(0, b, chosen=0)
    kinds = [type(record).__name__ for record in driver.last.persist]
    assert kinds == ["MembershipRecord", "ChosenRecord"]
    assert driver.last.token is not None
    assert of_type(driver.last.events, MembershipChanged) == [MembershipChanged(instance=0, effective=4, members=who)]
    [record] = of_type(driver.last.persist, MembershipRecord)
    again = Driver(make_config(1, **SMALL), Restored(promised=b, chosen=0, first=0, membership=record.state))
    assert again.group.pending_members == who


def test_a_void_change_is_handed_out_and_changes_nothing() -> None:
    driver = Driver(make_config(1, **SMALL))
    b = ballot(1, 0)
    entries = ((0, change_entry(b, -1, members(4))), (1, change_entry(b, -1, members(5))))
    driver.step(Accept(0, 1, b, 1, entries))
    driver.persist()
    assert driver.last.events[1:] == [ChangeVoid(instance=1)]
    assert [instance for instance, _ in driver.last.chosen] == [0, 1]
    assert driver.group.pending_members == members(4)


def test_a_change_that_cannot_be_read_stops_the_node() -> None:
    driver = Driver(make_config(1, **SMALL))
    b = ballot(1, 0)
    entry = make_entry(b, EntryKind.MEMBERSHIP, b"\x07" + bytes(20))
    driver.step(Accept(0, 1, b, 0, ((0, entry),)))
    with pytest.raises(InvariantViolation, match="upgrade this node"):
        driver.persist()


def test_a_candidate_that_left_is_refused_and_told_what_it_lacks() -> None:
    driver = Driver(make_config(0, size=2), Restored(chosen=7))
    driver.now += 1
    driver.group._peers.lost(1)
    reply = driver.pre_vote(5, ballot(9, 5), chosen=3)
    assert (reply.granted, reply.chosen) == (False, 7)
    assert driver.prepare(5, ballot(9, 5), first=4).persist == []
    # One that knows more may have become a member by what it knows.
    assert driver.pre_vote(5, ballot(9, 5), chosen=8).granted
    assert of_type(driver.prepare(5, ballot(9, 5), first=9).send_after, Promise)


def test_who_has_no_vote_yet_answers_with_what_it_lacks_and_learns_that_it_has() -> None:
    """A storm found it: the only other voter took itself for a learner, and nobody told it otherwise."""
    driver = Driver(make_config(1, members=(Member(0), Member(1, LEARNER))))
    driver.now += 1
    reply = driver.pre_vote(0, ballot(2, 0), chosen=5)
    assert not reply.granted
    assert driver.group._learner.target == 5
    assert [message.receiver for message in driver.last.send if not isinstance(message, PreVoteReply)] == [0]


def test_a_node_that_left_still_tells_how_far_its_log_goes() -> None:
    """A storm found it: those who stayed lacked its log's end, and took it for a voter that does not answer."""
    driver = Driver(make_config(2, members=members(2)), Restored(chosen=9))
    driver.now += 1
    reply = driver.pre_vote(0, ballot(2, 0), chosen=3)
    assert (reply.granted, reply.chosen) == (False, 9)


def test_a_member_that_may_not_stand_asks_what_it_missed_when_it_hears_of_no_master() -> None:
    """A storm found it: the only one who could lead had been given its vote by a change that it had not heard of, and
    the others were a witness, and a node that had lost its disk.
    """
    driver = Driver(make_config(0, members=(Member(0, LEARNER), Member(1), Member(2, WITNESS))))
    assert driver.group.next_deadline() == pytest.approx(driver.now + driver.config.recovery_timeout)
    asked = of_type(driver.tick().send, LearnRequest)
    assert [message.receiver for message in asked] == [1, 2]
    assert driver.group.next_deadline() == pytest.approx(driver.now + driver.config.recovery_timeout)
    driver.heartbeat(1, ballot(1, 1))
    driver.now += 1
    driver.heartbeat(1, ballot(1, 1))
    assert driver.group.next_deadline() == pytest.approx(driver.now + driver.config.recovery_timeout)


def test_events_come_in_order_on_every_node() -> None:
    cluster = make_cluster(3)
    told: dict[int, list[str]] = {node: [] for node in cluster.nodes}
    interesting = (MembershipChanged, MembershipEffective, MembershipSettled, BecameMaster)

    def keep(node, event):  # type: ignore[no-untyped-def]
        if isinstance(event, interesting):
            told[node.node_id].append(type(event).__name__)

    cluster.on_event = keep
    change(cluster, 3, LEARNER)
    assert told[0] == ["MembershipChanged", "MembershipEffective", "MembershipSettled"]
    for node in (1, 2):
        assert told[node] == ["MembershipChanged", "MembershipEffective"]
