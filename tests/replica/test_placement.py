"""Masters go back to where they belong, but not to a node that comes and goes, and not all at once."""

from __future__ import annotations

import math

from phxqueue.replica.placement import MasteredGroup, Placement


def group(group_id: int = 0, preferred: tuple[int, ...] = (1,), healthy: tuple[int, ...] = (1,)) -> MasteredGroup:
    return MasteredGroup(group_id, preferred, frozenset(healthy))


def test_a_preferred_node_gets_the_group_when_it_has_been_healthy_long_enough() -> None:
    placement = Placement(settle=5, interval=1)
    assert placement.consider([group()], 10.0) is None
    assert placement.consider([group()], 14.9) is None
    assert placement.consider([group()], 15.0) == (0, 1)


def test_a_node_that_comes_and_goes_gets_nothing() -> None:
    placement = Placement(settle=5, interval=1)
    for second in range(100):
        healthy = (1,) if second % 4 else ()
        assert placement.consider([group(healthy=healthy)], float(second)) is None


def test_the_best_of_several_is_chosen() -> None:
    placement = Placement(settle=5, interval=1)
    groups = [group(preferred=(2, 1), healthy=(1, 2))]
    placement.consider(groups, 0.0)
    assert placement.consider(groups, 5.0) == (0, 2)


def test_the_second_best_gets_it_while_the_best_is_away() -> None:
    placement = Placement(settle=5, interval=1)
    groups = [group(preferred=(2, 1), healthy=(1,))]
    placement.consider(groups, 0.0)
    assert placement.consider(groups, 5.0) == (0, 1)


def test_one_group_at_a_time() -> None:
    placement = Placement(settle=5, interval=1)
    groups = [group(0), group(1)]
    placement.consider(groups, 0.0)
    assert placement.consider(groups, 5.0) == (0, 1)
    assert placement.consider(groups[1:], 5.9) is None
    assert placement.consider(groups[1:], 6.0) == (1, 1)


def test_a_transfer_that_failed_is_tried_again_after_a_while() -> None:
    placement = Placement(settle=5, interval=1)
    placement.consider([group()], 0.0)
    assert placement.consider([group()], 5.0) == (0, 1)
    assert placement.consider([group()], 9.9) is None
    assert placement.consider([group()], 10.0) == (0, 1)


def test_it_can_be_turned_off() -> None:
    placement = Placement(settle=math.inf, interval=1)
    assert placement.consider([group()], 0.0) is None
    assert placement.consider([group()], 1e9) is None
