"""The pure parts of the tool."""

from __future__ import annotations

from itertools import islice

from phxqueue.admin.node_status import NodeReport
from phxqueue.config import NodeAddress
from phxqueue.proto.status_pb2 import GroupStatus, NodeStatusResponse
from tests.chaos.schedule import schedule
from tests.chaos.verdict import compare_queue, compare_replicas

WEIGHTS = {"kill": 3, "pause": 1, "never": 0}


def test_a_seed_decides_the_faults() -> None:
    first, again = (list(islice(schedule(7, 0, WEIGHTS), 50)) for _ in range(2))
    assert first == again
    assert [planned.rng().random() for planned in first] == [planned.rng().random() for planned in again]
    assert first != list(islice(schedule(8, 0, WEIGHTS), 50))
    assert first != list(islice(schedule(7, 1, WEIGHTS), 50))


def test_every_kind_comes_before_any_comes_again_and_none_without_weight() -> None:
    planned = list(islice(schedule(1, 0, WEIGHTS), 200))
    assert {one.kind for one in planned[:2]} == {"kill", "pause"}
    kinds = [one.kind for one in planned]
    assert set(kinds) == {"kill", "pause"}
    assert kinds.count("kill") > kinds.count("pause")
    assert all(0 <= one.hold_s <= 6 and 0 <= one.calm_s <= 5 for one in planned)


def report(node_id: int, applied: int, state_hash: int) -> NodeReport:
    group = GroupStatus(group_id=0, applied=applied, state_hash=state_hash)
    node = NodeAddress(node_id=node_id, ip="127.0.0.1", port=1)
    return NodeReport(None, node, NodeStatusResponse(groups=[group]))  # type: ignore[arg-type]


def test_replicas_are_compared_at_equal_instances_only() -> None:
    assert compare_replicas([report(node, 5, 77) for node in range(3)], 1) == ({}, [])
    waiting, different = compare_replicas([report(0, 5, 1), report(1, 5, 1), report(2, 4, 2)], 1)
    assert (waiting, different) == ({0: [5, 5, 4]}, [])
    silent = NodeReport(None, None, None)  # type: ignore[arg-type]
    waiting, different = compare_replicas([report(0, 5, 1), report(1, 5, 1), silent], 1)
    assert waiting, "a node that says nothing is waited for"
    _, [difference] = compare_replicas([report(0, 5, 1), report(1, 5, 1), report(2, 5, 2)], 1)
    assert "replicas differ at instance 5" in difference


def test_what_was_told_is_where_it_was_told_as_far_as_it_is_retained() -> None:
    told = {0: (7, 0), 1: (7, 1), 2: (8, 0), 3: (7, 2)}
    assert compare_queue(5, range(4), {0: 0, 1: 1, 2: 0, 3: 2}, told) == []
    assert compare_queue(5, range(2, 4), {2: 0, 3: 2}, told) == []  # the rest was trimmed
    assert compare_queue(5, range(4, 4), {}, told) == []  # all of it
    assert compare_queue(5, range(2, 5), {2: 0, 3: 2, 4: 9}, told) == []  # what nobody was told of
    [wrong] = compare_queue(5, range(2, 4), {2: 1, 3: 2}, told)
    assert "cursor 2: 8 0 was told, 1 is" in wrong
    [lost] = compare_queue(5, range(2, 3), {2: 0}, told)
    assert "cursor 3: 7 2 was told, None is" in lost
    [hole, _] = compare_queue(5, range(2, 4), {3: 2}, told)
    assert "cursors 2 to 3, and 1 items" in hole
