"""The times of a group grow with its lease."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from phxqueue.config.cluster import NodeAddress, Store
from phxqueue.paxos.config import GroupConfig, Member
from phxqueue.replica.timing import GroupTimes, group_times

NODES = tuple(NodeAddress(node, "127.0.0.1", 5100 + node, 5200 + node) for node in range(3))


def test_those_of_a_lan_are_the_cores_own() -> None:
    own = GroupConfig(group_id=0, node_id=0, members=(Member(0),))
    times = asdict(group_times(Store(store_id=1, nodes=NODES)))
    stagger = times.pop("election_stagger")
    assert stagger == 0.05  # processes of a busy machine are further apart than simulated ones
    assert times == pytest.approx({name: getattr(own, name) for name in times})


@pytest.mark.parametrize("round_trip", [0.2, 0.3])
def test_across_regions_no_answer_is_waited_for_less_than_a_round_trip(round_trip: float) -> None:
    times = group_times(
        Store(store_id=1, nodes=NODES, heartbeat_interval_ms=500, master_lease_ms=2500, election_stagger_ms=200)
    )
    waits = (times.election_timeout, times.retransmit_interval, times.learn_timeout, times.recovery_timeout)
    assert min(waits) > round_trip
    assert times.step_down_after > times.lease > times.heartbeat_interval > round_trip
    config = GroupConfig(group_id=0, node_id=0, members=(Member(0),), **asdict(times))  # they go together
    assert config.transfer_timeout > round_trip


def test_every_time_of_the_core_is_given_one() -> None:
    bounds = {"group_id", "node_id", "members", "incarnation", "max_repairs", "version"}
    sizes = {"window", "window_bytes", "accept_ahead", "accept_ahead_bytes", "max_message_bytes"}
    assert set(GroupConfig.__slots__) - bounds - sizes == set(GroupTimes.__slots__)
