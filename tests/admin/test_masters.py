"""What ``phxqueue masters`` makes of the nodes' answers, and what it asks of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phxqueue.admin import masters as masters_module
from phxqueue.admin.mastership import SetReport, as_document, as_text, masterships
from phxqueue.config import Store, load_cluster
from phxqueue.proto.members_pb2 import TransferMasterResponse
from phxqueue.proto.status_pb2 import GroupStatus, NodeStatusResponse, PeerStatus
from tests.admin.conftest import Invoke


@pytest.fixture
def store(cluster_directory: Path) -> Store:
    return replace(load_cluster(cluster_directory / "etc/globalconfig.conf").topics[0].stores[0], paxos_groups=2)


def mastered(group_id: int, *fit: int, unfit: int | None = None, held: bool = False, ballot: int = 1) -> GroupStatus:
    peers = [PeerStatus(node_id=node_id, fit=True) for node_id in fit]
    if unfit is not None:
        peers.append(PeerStatus(node_id=unfit, unfit_because=f"node {unfit} has not been heard for a while"))
    return GroupStatus(
        group_id=group_id,
        is_master=True,
        ballot=ballot,
        master_for_s=185,
        lease_remaining_s=0.25,
        held=held,
        peers=peers,
    )


def report(store: Store, **groups: GroupStatus | tuple[GroupStatus, ...]) -> SetReport:
    """What nodes say: ``node0=mastered(...)``."""
    answers = {}
    for name, said in groups.items():
        node_id = int(name.removeprefix("node"))
        states = said if isinstance(said, tuple) else (said,)
        answers[node_id] = NodeStatusResponse(store_id=1, node_id=node_id, groups=states)
    return SetReport(store, answers)


def test_all_is_where_it_belongs(store: Store) -> None:
    lines = as_text([report(store, node0=mastered(0, 1, 2), node1=mastered(1, 0, 2))])
    assert lines == [
        "  PAXOS GROUP      MASTER  PREFERRED  REGION  MASTER FOR  LEASE LEFT  COULD LEAD",
        "  store 1 group 0  0       0          -        3 min 5 s      0.25 s       0 1 2",
        "  store 1 group 1  1       1          -        3 min 5 s      0.25 s       0 1 2",
    ]


def test_who_is_away_from_home_and_why(store: Store) -> None:
    two = report(store, node2=(mastered(0, 1, unfit=0), mastered(1, 0, 1)))
    assert [one.better for one in masterships(two)] == [1, 1]
    lines = as_text([two])
    assert "  store 1 group 0 is going back to node 1 when that has been well for a while" in lines
    held = as_text([report(store, node2=(mastered(0, 0, 1, held=True), mastered(1, unfit=1)))])
    assert "2 (held)" in held[1]
    assert "stays there until `phxqueue masters balance`" in held[3]
    assert held[4] == "  store 1 group 1: node 1 has not been heard for a while"


def test_of_two_that_claim_a_group_the_newer_one_counts(store: Store) -> None:
    both = report(store, node0=mastered(0, ballot=1), node2=(mastered(0, 0, ballot=2), mastered(1)))
    assert [one.node_id for one in masterships(both)] == [2, 2]


def test_a_group_without_master_is_told(store: Store) -> None:
    none = report(store, node0=mastered(0, 1, 2))
    assert "none" in as_text([none])[2]
    assert as_document([none])[1]["master_node_id"] is None


def test_regions_are_shown_and_preferred(store: Store) -> None:
    nodes = tuple(replace(node, region=region) for node, region in zip(store.nodes, ("a", "b", "b"), strict=True))
    regional = replace(store, nodes=nodes, preferred_region="b")
    [one, other] = masterships(report(regional, node0=(mastered(0, 1, 2), mastered(1, 2))))
    assert (one.order, one.better) == ((1, 2, 0), 1)
    assert other.better == 2  # the best that could
    assert as_document([report(regional, node1=mastered(0))])[0]["region"] == "b"


class Nodes:
    """In place of connections: every call is remembered, and answered as told."""

    def __init__(self, report: SetReport) -> None:
        self.report = report
        self.calls: list[Any] = []
        self.refusal = ""

    async def connection(self, address: Any) -> Nodes:
        return self

    async def call(self, method: Any, request: Any, timeout: float) -> Any:
        self.calls.append((method.name, request))
        return TransferMasterResponse(refusal=self.refusal, took_s=0.004)

    async def close(self) -> None:
        pass


@pytest.fixture
def nodes(store: Store, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    nodes = Nodes(report(store, node2=(mastered(0, 0, 1, held=True), mastered(1, 0, unfit=1))))

    async def ask_sets(*_: Any) -> list[SetReport]:
        return [nodes.report]

    async def ask_set(*_: Any) -> SetReport:
        return nodes.report

    monkeypatch.setattr(masters_module, "open_pool", lambda *_: nodes)
    monkeypatch.setattr(masters_module, "ask_sets", ask_sets)
    monkeypatch.setattr(masters_module, "ask_set", ask_set)
    monkeypatch.setattr(masters_module, "_check", lambda *_: None)  # the fixture's store has one group more
    return nodes


def test_list(nodes: Nodes, invoke: Invoke) -> None:
    told = json.loads(invoke("masters", "list", "--json").output)
    assert [(one["set"], one["master_node_id"], one["held"]) for one in told] == [
        ("store 1", 2, True),
        ("store 1", 2, False),
    ]
    nodes.report = SetReport(nodes.report.replica_set, {})
    assert invoke("masters", "list").exit_code == 1


def test_move_hands_over_and_holds(nodes: Nodes, invoke: Invoke) -> None:
    result = invoke("masters", "move", "0", "--group", "0")
    assert result.output == "store 1 group 0: node 2 -> node 0 in 4 ms\n"
    [(transfer, first), (hold, second)] = nodes.calls
    assert (transfer, first.group_id, first.to_node_id) == ("TransferMaster", 0, 0)
    assert (hold, list(second.group_ids), second.release) == ("HoldMaster", [0], False)


def test_move_of_all_groups_without_hold(nodes: Nodes, invoke: Invoke) -> None:
    assert invoke("masters", "move", "1", "--no-hold").exit_code == 0
    assert [name for name, _ in nodes.calls] == ["TransferMaster"] * 2


def test_a_refused_move_says_why_and_fails(nodes: Nodes, invoke: Invoke) -> None:
    nodes.refusal = "node 1 lags behind"
    result = invoke("masters", "move", "1", "--group", "1")
    assert (result.exit_code, result.output) == (1, "store 1 group 1 stays on node 2: node 1 lags behind\n")
    assert [name for name, _ in nodes.calls] == ["TransferMaster"]  # nothing is held


def test_balance_releases_and_moves_to_the_best_that_can(nodes: Nodes, invoke: Invoke) -> None:
    result = invoke("masters", "balance", "--pause", "0")
    assert result.exit_code == 1  # node 1, which is preferred for group 1, is away
    assert result.output == (
        "store 1 group 0: node 2 -> node 0 in 4 ms\n"
        "store 1 group 1 stays on node 2: node 1 has not been heard for a while\n"
    )
    assert [name for name, _ in nodes.calls] == ["HoldMaster", "TransferMaster"]


def test_what_does_not_exist_is_named(invoke: Invoke, cluster_directory: Path) -> None:
    assert "has no store 7; there are: 1" in invoke("masters", "move", "0", "--store", "7").stderr
    assert "has no lock group 7" in invoke("masters", "move", "0", "--lock", "7").stderr
    assert "say one of them" in invoke("masters", "move", "0", "--lock", "7", "--store", "1").stderr
    assert "its voters are 0, 1, 2" in invoke("masters", "move", "9").stderr
    assert "has groups 0 to 0, not 5" in invoke("masters", "move", "0", "--group", "5").stderr
