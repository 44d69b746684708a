"""The samples over several regions load without a remark and say what their README promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from phxqueue.config import check, load_cluster, load_lock_node, load_store_node
from phxqueue.config.cluster import ReplicaSet
from phxqueue.replica.timing import group_times

SAMPLES = Path(__file__).parents[2] / "etc" / "multi-region"
NAMES = ("three-regions", "two-regions-and-witness", "far-learner")
ROUND_TRIP_S = 0.2


def sets_of(name: str) -> list[ReplicaSet]:
    topic = load_cluster(SAMPLES / name / "globalconfig.conf").topics[0]
    return [*topic.stores, *topic.locks]


def spans_voters(replica_set: ReplicaSet) -> bool:
    return len({node.region for node in replica_set.voters}) > 1


def test_every_sample_is_known_here() -> None:
    assert {path.name for path in SAMPLES.iterdir() if path.is_dir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_to_be_remarked(name: str) -> None:
    report = check([SAMPLES / name])
    assert [str(problem) for problem in report.problems] == []
    assert len(report.files) == 8
    for node in (load_store_node(SAMPLES / name / "store.0.conf"), load_lock_node(SAMPLES / name / "lock.0.conf")):
        assert node.node.region == "east"


@pytest.mark.parametrize("name", NAMES)
def test_all_masters_are_preferred_in_the_preferred_region(name: str) -> None:
    for replica_set in sets_of(name):
        assert replica_set.preferred_region
        region = {node.node_id: node.region for node in replica_set.nodes}
        for group_id in range(replica_set.paxos_groups):
            order = replica_set.election_order(group_id)
            assert region[order[0]] == replica_set.preferred_region
            assert all(replica_set.node(node_id).kind == "voter" for node_id in order)


@pytest.mark.parametrize("name", ["three-regions", "two-regions-and-witness"])
def test_whichever_region_is_lost_a_majority_is_left_and_can_lead(name: str) -> None:
    for replica_set in sets_of(name):
        for lost in {node.region for node in replica_set.nodes}:
            left = [node for node in replica_set.voters if node.region != lost]
            assert 2 * len(left) > len(replica_set.voters)
            assert any(node.kind == "voter" for node in left)


@pytest.mark.parametrize("name", NAMES)
def test_nobody_waits_less_than_a_round_trip_for_a_voter_in_another_region(name: str) -> None:
    for replica_set in filter(spans_voters, sets_of(name)):
        times = group_times(replica_set)
        assert times.heartbeat_interval > 2 * ROUND_TRIP_S
        assert times.lease >= 5 * times.heartbeat_interval
        assert min(times.election_timeout, times.retransmit_interval, times.learn_timeout) > 2 * ROUND_TRIP_S
        assert times.election_stagger > ROUND_TRIP_S  # the next in line hears of the first before it stands itself


@pytest.mark.parametrize("name", NAMES)
def test_clients_are_more_patient_than_a_failover_is_long(name: str) -> None:
    cluster = load_cluster(SAMPLES / name / "globalconfig.conf")
    topic = cluster.topics[0]
    for replica_set in topic.stores:
        failover = replica_set.master_lease_ms / 1000 + 2.0
        assert topic.settings.producer_no_master_patience_s > failover
        assert topic.settings.store_paxos_propose_timeout_ms / 1000 > failover
    assert cluster.net.connect_timeout_s > 3 * ROUND_TRIP_S
    assert cluster.net.try_timeout_s > 3 * ROUND_TRIP_S  # connected already: there, the round of Paxos, and back
