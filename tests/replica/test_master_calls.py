"""What operators ask of masterships."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from phxqueue.net.service import RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.members_pb2 import HoldMasterRequest, TransferMasterRequest
from phxqueue.proto.methods import HOLD_MASTER, TRANSFER_MASTER
from phxqueue.replica.master_calls import MasterCalls
from tests.replica.fakes import outcome
from tests.replica.test_mastership import Set

#: Who asks is the port's business.
NOBODY: Any = None


@pytest.fixture
def cluster() -> Set:
    return Set()


def calls(cluster: Set, node_id: int = 0) -> MasterCalls:
    return MasterCalls(cluster.up[node_id], 1, "store 1")


def transfer(cluster: Set, node_id: int, **fields: Any) -> Any:
    request = TransferMasterRequest(**{"set_id": 1, "to_node_id": 2, **fields})
    asked: Any = Deferred.fromCoroutine(calls(cluster, node_id).transfer(request, NOBODY))
    cluster.run(0.2)
    return outcome(asked)


def test_it_answers_on_the_service_port(cluster: Set) -> None:
    service = RpcService("store 1 node 0")
    calls(cluster).register(service)
    assert set(service.table) == {TRANSFER_MASTER.number, HOLD_MASTER.number}


def test_a_group_is_handed_over_and_how_long_that_took(cluster: Set) -> None:
    answer = transfer(cluster, 0)
    assert answer.refusal == ""
    assert 0 < answer.took_s < 0.1
    assert cluster.master(0) == 2


def test_who_cannot_take_it_is_told_why(cluster: Set) -> None:
    assert "node 9 is no other voter" in transfer(cluster, 0, to_node_id=9).refusal
    assert cluster.master(0) == 0


def test_only_the_master_can_hand_over(cluster: Set) -> None:
    error = transfer(cluster, 1)
    assert isinstance(error, RpcError)
    assert error.status is Status.NOT_MASTER
    assert "node 0 is" in error.message


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"set_id": 2}, Status.INVALID_ARGUMENT, "set_id 2: this is store 1"),
        ({"group_id": 2}, Status.INVALID_ARGUMENT, "store 1 has groups 0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(cluster: Set, fields: dict[str, Any], status: Status, said: str) -> None:
    error = transfer(cluster, 0, **fields)
    assert isinstance(error, RpcError)
    assert (error.status, said in error.message) == (status, True)


def test_holding_and_releasing(cluster: Set) -> None:
    calls(cluster).hold(HoldMasterRequest(set_id=1, group_ids=[0, 1]), NOBODY)
    assert [group.held for group in cluster.up[0].groups.values()] == [True, True]
    calls(cluster).hold(HoldMasterRequest(set_id=1, group_ids=[1], release=True), NOBODY)
    assert [group.held for group in cluster.up[0].groups.values()] == [True, False]
    with pytest.raises(RpcError, match="groups 0 to 1"):
        calls(cluster).hold(HoldMasterRequest(set_id=1, group_ids=[0, 7], release=True), NOBODY)
    assert cluster.up[0].groups[0].held  # all or nothing
