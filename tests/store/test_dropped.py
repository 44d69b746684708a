"""Items dropped because their time had passed are counted, replicated, once each: whatever gets lost or said twice."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.net.status import Status
from phxqueue.proto.digest import MOST_DROPPED
from phxqueue.proto.store_pb2 import AckClaim, CursorMove, CursorRange, StoreCommand
from phxqueue.replica.errors import OutcomeUnknown
from phxqueue.store.batcher import Batcher, BatcherLimits, Stretches
from phxqueue.store.passed_on import DROP_VERSION, DROPPED
from phxqueue.store.queues import LEDGER_VERSION, StoreQueues
from tests.store.fakes import NOW_MS, VALUE, Call, StoreUnderTest, applied, batch, command


def move(acked: int, *dropped: tuple[int, int], queue_id: int = 1, group: int = 1) -> CursorMove:
    ranges = [CursorRange(first=first, count=stop - first) for first, stop in dropped]
    return CursorMove(queue_id=queue_id, consumer_group_id=group, acked=acked, dropped=ranges)


def moved(machine: StoreQueues, *moves: CursorMove, version: int = DROP_VERSION) -> int:
    """Apply an entry with these moves; how many items count as dropped then."""
    machine.apply(machine.applied + 1, VALUE, command(moves=moves, version=version))
    return machine.passed_on.get((1, DROPPED), 0)


def machine(items: int = 20) -> StoreQueues:
    made = StoreQueues()
    applied(made, batch(1, items))
    return made


def test_each_position_counts_with_the_move_that_passes_it() -> None:
    made = machine()
    assert moved(made, move(10, (0, 2), (8, 12))) == 4
    assert moved(made, move(10, (0, 2), (8, 10))) == 4, "said again"
    assert moved(made, move(9, (5, 7))) == 4, "a move that comes late"
    assert moved(made, move(15, (0, 2), (8, 12), (14, 15))) == 4 + 2 + 1
    assert moved(made, move(99, (18, 40))) == 7 + 2, "nothing beyond the end of the queue"


def test_what_overlaps_counts_once() -> None:
    assert moved(machine(), move(10, (0, 5), (3, 6), (1, 2))) == 6


def test_groups_and_queues_are_counted_apart() -> None:
    made = machine()
    applied(made, batch(2, 20))
    moved(made, move(3, (0, 1)), move(3, (0, 2), group=2), move(9, (0, 3), queue_id=2))
    assert made.passed_on == {(1, DROPPED): 4, (2, DROPPED): 2}


def test_a_command_of_an_older_version_counts_nothing() -> None:
    made = machine()
    assert moved(made, move(10, (0, 5)), version=DROP_VERSION - 1) == 0
    assert made.acked_cursor(1, 1) == 10


def test_the_counts_are_in_checkpoints_and_in_the_hash() -> None:
    one, other = machine(), machine()
    moved(one, move(10, (0, 5)))
    moved(other, move(10))
    assert one.state_hash() != other.state_hash()
    checkpoint = one.checkpoint()
    restored = StoreQueues()
    restored.restore(checkpoint.state, checkpoint.segments)
    assert restored.passed_on == one.passed_on
    assert restored.state_hash() == one.state_hash()


@given(st.integers(0, 2**32))
def test_however_acknowledgements_are_cut_repeated_and_reordered(seed: int) -> None:
    rng = random.Random(seed)
    dropped = {cursor for cursor in range(60) if rng.random() < 0.4}
    made, passed = machine(60), 0
    for _ in range(15):
        acked, start = rng.randint(0, 60), rng.randint(0, passed)
        told = [(cursor, cursor + 1) for cursor in sorted(dropped) if start <= cursor < acked]
        passed = max(passed, acked)
        assert moved(made, move(acked, *told)) == sum(cursor < passed for cursor in dropped)


# ---- from the acknowledgement into the log ------------------------------------------------------------


def store(**kwargs: object) -> StoreUnderTest:
    made = StoreUnderTest(**kwargs)  # type: ignore[arg-type]
    made.added(batch(1, 10, mask=1))
    return made


def acknowledge(made: StoreUnderTest, stop: int, *dropped: tuple[int, int], start: int = 0) -> Call:
    ranges = [CursorRange(first=first, count=end - first) for first, end in dropped]
    return made.get(limit=0, prev_cursor=stop, claims=[AckClaim(start=start, stop=stop, count=stop, dropped=ranges)])


def counted(made: StoreUnderTest) -> int:
    made.clock.advance(0.3)
    return sum(one.dropped for one in made.service.passed_on())


def test_several_acknowledgements_become_one_move() -> None:
    made = store()
    acknowledge(made, 4, (1, 3))
    acknowledge(made, 8, (1, 3), (6, 7))
    assert counted(made) == 3
    last = StoreCommand.FromString(made.group.log[-1])
    assert last.version == DROP_VERSION
    assert last.cursor_moves == [move(8, (1, 3), (6, 7))]


def test_while_a_member_does_not_know_the_command_they_count_as_finished() -> None:
    made = store()
    made.first_program(LEDGER_VERSION - 1)
    acknowledge(made, 4, (1, 3))
    assert counted(made) == 0
    last = StoreCommand.FromString(made.group.log[-1])
    assert (last.version, last.cursor_moves) == (1, [move(4)])
    made.group.lowest_version = DROP_VERSION
    acknowledge(made, 8, (1, 3), (6, 7))
    assert counted(made) == 1, "what was acknowledged before stays as it was"


def test_a_move_whose_outcome_is_unknown_is_made_again_and_counts_once() -> None:
    made = store()
    made.group.auto = False
    acknowledge(made, 4, (1, 3))
    made.clock.advance(0.3)
    [(payload, outcome)] = made.group.proposed
    made.group.proposed.clear()
    acknowledge(made, 6, (1, 3), (5, 6))
    made.group.append(payload)  # it was chosen all the same
    outcome.errback(OutcomeUnknown("no answer"))
    made.clock.advance(0.3)
    made.group.auto = True
    while made.group.proposed:
        made.group.choose()
    assert counted(made) == 3


@pytest.mark.parametrize("dropped", [[(2, 1)], [(3, 4), (1, 2)], [(8, 12)], [(2, 2)]], ids=str)
def test_stretches_that_make_no_sense_are_refused(dropped: list[tuple[int, int]]) -> None:
    made = store()
    ranges = [CursorRange(first=first, count=(stop - first) % 2**64) for first, stop in dropped]
    call = made.get(limit=0, prev_cursor=10, claims=[AckClaim(start=0, stop=10, count=10, dropped=ranges)])
    assert call.error.status is Status.INVALID_ARGUMENT
    assert "dropped" in call.error.message


def test_so_many_stretches_and_no_more() -> None:
    made = StoreUnderTest()
    made.group.append(command(batch(1, 3 * MOST_DROPPED, mask=1)))
    stretches = [(2 * number, 2 * number + 1) for number in range(MOST_DROPPED + 1)]
    assert acknowledge(made, 3 * MOST_DROPPED, *stretches).error.status is Status.INVALID_ARGUMENT
    acknowledge(made, 3 * MOST_DROPPED, *stretches[:-1])
    assert counted(made) == MOST_DROPPED


def test_an_entry_takes_no_more_of_them_either() -> None:
    batcher: Batcher[str] = Batcher(BatcherLimits())
    for queue_id in range(3):
        many: Stretches = tuple((2 * number, 2 * number + 1) for number in range(MOST_DROPPED // 2))
        batcher.move(queue_id, 1, 2 * MOST_DROPPED, 0.0, many)
    batcher.move(9, 1, 5, 0.0)
    found = []
    while (proposal := batcher.take(0, 1.0, NOW_MS)) is not None:
        found.append([(key[0], len(proposal.dropped.get(key, ()))) for key in proposal.moves])
    half = MOST_DROPPED // 2
    assert found == [[(0, half), (1, half)], [(2, half), (9, 0)]]
