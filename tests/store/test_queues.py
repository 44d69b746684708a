"""The state machine, entry by entry."""

from __future__ import annotations

import pytest
from zope.interface.verify import verifyObject

from phxqueue.net.status import Status
from phxqueue.proto.store_pb2 import StoreCommand
from phxqueue.replica.errors import Halted
from phxqueue.replica.interfaces import IStateMachine
from phxqueue.replica.portions import at_once
from phxqueue.store import index
from phxqueue.store.columns import CorruptCheckpoint
from phxqueue.store.idempotence import Idempotence
from phxqueue.store.index import SOLE, UNIFORM
from phxqueue.store.outcome_chunks import chunk_key
from phxqueue.store.outcomes import Duplicate, Refusal
from phxqueue.store.queues import COMMAND_VERSION, StoreQueues
from phxqueue.store.segments import segment_key
from tests.stand_ins import NOOP
from tests.store.fakes import NOW_MS, VALUE, applied, batch, command, move, trimmed


def test_is_a_state_machine() -> None:
    verifyObject(IStateMachine, StoreQueues())


def test_cursors_begin_at_0_and_have_no_gaps() -> None:
    machine = StoreQueues()
    assert applied(machine, batch(1, 3), batch(2, 5), batch(1, 2)) == [0, 0, 3]
    assert applied(machine, batch(2, 1), batch(1, 4)) == [5, 5]
    assert (machine.end_cursor(1), machine.end_cursor(2), machine.end_cursor(3)) == (9, 6, 0)
    assert machine.applied == 1


def test_one_row_covers_all_batches_of_a_queue_in_an_entry() -> None:
    machine = StoreQueues()
    applied(machine, *[batch(1, 1, items=b"x" * 10, digest=2**63) for _ in range(64)])
    applied(machine, batch(1, 1), batch(2, 1), batch(1, 2, mask=0b100))
    index = machine.queues[1]
    assert index.firsts.tolist() == [0, 64]
    assert index.instances.tolist() == [0, 1]
    assert index.masks.tolist() == [0b11, 0b111]
    assert index.sizes.tolist() == [640, 10]
    assert index.flags.tolist() == [SOLE | UNIFORM, 0]
    assert machine.queues[2].flags.tolist() == [UNIFORM]
    assert index.row_digest(0) == 64 * 2**63 % 2**64


def test_batches_of_different_pubs_are_not_uniform() -> None:
    machine = StoreQueues()
    applied(machine, batch(1, pub_id=1), batch(1, pub_id=2), batch(1, pub_id=1))
    assert machine.queues[1].flags.tolist() == [SOLE]


def test_other_kinds_of_entries_only_count() -> None:
    machine = StoreQueues()
    assert machine.apply(0, NOOP, b"") is None
    assert machine.apply(1, 2, b"members") is None
    assert machine.applied == 1
    assert not machine.queues


def test_entries_must_come_in_order() -> None:
    machine = StoreQueues()
    applied(machine, batch())
    for instance in (0, 2):
        with pytest.raises(AssertionError):
            machine.apply(instance, VALUE, command(batch()))


def test_time_never_goes_back() -> None:
    machine = StoreQueues()
    for at_ms in (NOW_MS, NOW_MS - 5000, NOW_MS + 1):
        applied(machine, batch(), at_ms=at_ms)
    assert machine.queues[1].timestamps.tolist() == [NOW_MS, NOW_MS, NOW_MS + 1]


@pytest.mark.parametrize(
    "payload", [b"\xff\xff\xff", b"\x1a\x05abc", b"", StoreCommand(timestamp_ms=5).SerializeToString()]
)
def test_an_entry_that_is_no_command_gives_the_same_refusal_everywhere(payload: bytes) -> None:
    first, second = StoreQueues(), StoreQueues()
    for machine in (first, second):
        result = machine.apply(0, VALUE, payload)
        assert isinstance(result, Refusal)
        assert result.status is Status.INVALID_ARGUMENT
        assert "entry 0 is not a command" in result.message
        assert (machine.applied, machine.unreadable, machine.queues) == (0, 1, {})
    assert first.state_hash() == second.state_hash()
    assert applied(first, batch()) == [0]


def test_a_newer_command_halts_and_changes_nothing() -> None:
    machine = StoreQueues()
    applied(machine, batch())
    before = machine.state_hash()
    newer = COMMAND_VERSION + 1
    with pytest.raises(Halted, match=rf"entry 1 is a command of version {newer}.*install"):
        machine.apply(1, VALUE, command(batch(), version=newer))
    assert (machine.applied, machine.state_hash()) == (0, before)


def test_an_empty_batch_is_refused_and_the_others_are_stored() -> None:
    machine = StoreQueues()
    first, refusal, last = applied(machine, batch(count=2), batch(count=0), batch(count=1))
    assert (first, last) == (0, 2)
    assert refusal == Refusal(Status.INVALID_ARGUMENT, "the batch's header counts no items")
    assert machine.refused == {0: (1,)}
    assert not machine.queues[1].flags[0] & SOLE


def test_a_batch_sent_again_gets_its_first_outcome() -> None:
    machine = StoreQueues()
    applied(machine, batch(count=4))
    once = batch(count=3, producer_id=9, sequence=1)
    assert applied(machine, once) == [4]
    assert applied(machine, batch(count=1)) == [7]
    assert applied(machine, once, batch(count=2), once) == [Duplicate(4, 3), 8, Duplicate(4, 3)]
    assert machine.refused == {3: (0, 2)}
    assert machine.end_cursor(1) == 10
    assert machine.recall(9, 1, 1) == Duplicate(4, 3)
    assert machine.recall(9, 2, 1) is None
    assert machine.recall(8, 1, 1) is None


def test_a_batch_twice_in_one_entry_is_stored_once() -> None:
    machine = StoreQueues()
    once = batch(count=3, producer_id=9, sequence=1)
    assert applied(machine, once, once) == [0, Duplicate(0, 3)]
    assert machine.end_cursor(1) == 3


def test_batches_without_sequence_are_never_duplicates() -> None:
    machine = StoreQueues()
    same = batch(producer_id=9)
    assert applied(machine, same, same) == [0, 1]


def test_a_sequence_used_again_for_another_queue_is_refused() -> None:
    machine = StoreQueues()
    applied(machine, batch(1, producer_id=9, sequence=1))
    [refusal] = applied(machine, batch(2, producer_id=9, sequence=1))
    assert refusal.status is Status.INVALID_ARGUMENT
    assert "stored in queue 1 and now names queue 2" in refusal.message


def test_a_sequence_older_than_the_window_is_refused() -> None:
    machine = StoreQueues(window=Idempotence(producer_outcomes=5))
    applied(machine, *[batch(producer_id=9, sequence=sequence) for sequence in range(1, 10)])
    [refusal] = applied(machine, batch(producer_id=9, sequence=3))
    assert refusal.status is Status.OUT_OF_RANGE
    assert "may have been stored already, or not" in refusal.message


def test_cursor_moves_take_the_maximum_and_stay_within_the_queue() -> None:
    machine = StoreQueues()
    applied(machine, batch(1, 10))
    applied(machine, moves=[move(1, 1, 5), move(1, 1, 3), move(1, 2, 99), move(7, 1, 4), move(1, 0, 4), move(1, 65, 4)])
    assert machine.acked == {(1, 1): 5, (1, 2): 10}
    applied(machine, moves=[move(1, 1, 4)])
    assert machine.acked_cursor(1, 1) == 5
    assert machine.acked_cursor(1, 3) == 0


def test_a_move_sees_the_batches_of_its_own_entry() -> None:
    machine = StoreQueues()
    applied(machine, batch(1, 10), moves=[move(1, 1, 10)])
    assert machine.acked_cursor(1, 1) == 10


def test_tells_which_queues_got_items() -> None:
    machine = StoreQueues()
    applied(machine, batch(1), batch(2), batch(3, count=0))
    applied(machine, moves=[move(1, 1, 1)])
    assert machine.take_touched() == {1, 2}
    assert machine.take_touched() == set()


def test_garbage_in_items_means_nothing_to_the_store() -> None:
    machine = StoreQueues()
    assert applied(machine, batch(count=3, items=bytes(range(256))), batch(count=1, items=b"\xff" * 50)) == [0, 3]


# ---- trimming --------------------------------------------------------------------------------------


def test_trimming_drops_whole_rows_from_the_front() -> None:
    machine = StoreQueues()
    for _ in range(4):
        applied(machine, batch(1, 10))
    applied(machine, moves=[move(1, 1, 40), move(1, 2, 40)])
    trimmed(machine, 1, 25)
    assert (machine.first_cursor(1), machine.first_needed()) == (20, 2)
    assert machine.queues[1].firsts.tolist() == [20, 30]
    trimmed(machine, 1, 40)
    assert (machine.first_cursor(1), machine.end_cursor(1), machine.first_needed()) == (40, 40, machine.applied + 1)
    assert applied(machine, batch(1)) == [40]


def test_no_replica_drops_what_a_group_has_still_to_read_whatever_a_master_asks_for() -> None:
    machine = StoreQueues()
    applied(machine, batch(1, 10, mask=0b01), batch(2, 10, mask=0b01))
    applied(machine, batch(1, 10, mask=0b11))
    applied(machine, moves=[move(1, 1, 20), move(1, 2, 15)])
    trimmed(machine, 1, 20)
    trimmed(machine, 2, 10)
    trimmed(machine, 7, 10)
    assert (machine.first_cursor(1), machine.first_cursor(2), machine.first_cursor(7)) == (10, 0, 0)
    assert machine.first_needed() == 0


def test_what_was_refused_is_forgotten_with_its_entry() -> None:
    machine = StoreQueues()
    once = batch(1, 1, mask=0, producer_id=9, sequence=1)
    for _ in range(3):
        applied(machine, once, batch(1, 1, mask=0))
    assert sorted(machine.refused) == [1, 2]
    trimmed(machine, 1, 3)
    assert sorted(machine.refused) == [2]


def test_the_next_version_is_remembered_by_the_state() -> None:
    machine = StoreQueues()
    applied(machine, batch())
    assert machine.version == 1
    trimmed(machine, 1, 1)
    copy = StoreQueues()
    checkpoint = machine.checkpoint()
    copy.restore(checkpoint.state, checkpoint.segments)
    assert copy.version == machine.version == 2


def test_a_segment_goes_with_the_last_of_its_rows() -> None:
    machine = StoreQueues(8)
    for _ in range(20):
        applied(machine, batch(1, 1, mask=0), batch(2, 1, mask=0))
    first = machine.checkpoint()
    assert len(first.segments) == 5
    assert first.dropped == []
    trimmed(machine, 1, 20)  # the first two segments are all of queue 1, the third half of it
    second = machine.checkpoint()
    assert second.dropped == [segment_key(0), segment_key(1)]
    assert second.needed == 0
    kept = {key: value for key, value in first.segments if key not in second.dropped}
    copy = StoreQueues(8)
    copy.restore(second.state, kept.items())
    assert copy.state_hash() == machine.state_hash()
    for each in (machine, copy):
        trimmed(each, 2, 13)
    assert copy.checkpoint() == machine.checkpoint()
    trimmed(copy, 2, 20)
    last = copy.checkpoint()
    assert last.dropped == [segment_key(4)]
    assert last.needed == copy.applied + 1


# ---- checkpoints -----------------------------------------------------------------------------------


def filled(segment_rows: int, entries: int = 30) -> StoreQueues:
    machine = StoreQueues(segment_rows)
    for entry in range(entries):
        batches = [batch(queue, 1 + entry % 3, producer_id=queue, sequence=entry + 1) for queue in (1, 2, 3)]
        applied(machine, *batches[: 1 + entry % 3], batches[0], at_ms=NOW_MS + entry)
    return machine


def test_segments_are_sealed_once_and_the_rest_is_in_the_state() -> None:
    machine = filled(16)
    rows = sum(len(index) for index in machine.queues.values())
    first = machine.checkpoint()
    assert [key for key, _ in first.segments] == [*(segment_key(n) for n in range(rows // 16)), chunk_key(0)]
    assert first.applied == machine.applied
    again = machine.checkpoint()
    assert again.segments == []
    assert again.state == first.state
    for _ in range(16):
        applied(machine, batch())
    assert [key for key, _ in machine.checkpoint().segments] == [segment_key(rows // 16)]


def test_a_checkpoint_restores_everything() -> None:
    machine = filled(8)
    applied(machine, moves=[move(1, 1, 7), move(2, 64, 1)])
    checkpoint = machine.checkpoint()
    copy = StoreQueues(8)
    copy.restore(checkpoint.state, checkpoint.segments)
    assert copy.state_hash() == machine.state_hash()
    assert (copy.acked, copy.refused, copy.applied) == (machine.acked, machine.refused, machine.applied)
    for each in (machine, copy):
        assert applied(each, batch(1, 1, producer_id=1, sequence=30)) == [Duplicate(57, 3)]
    assert copy.state_hash() == machine.state_hash()
    # What is sealed from here on does not depend on having been restored either.
    for each in (machine, copy):
        for _ in range(20):
            applied(each, batch(2))
    assert copy.checkpoint() == machine.checkpoint()


def test_segments_sealed_after_the_checkpoint_are_ignored() -> None:
    machine = filled(8)
    early = machine.checkpoint()
    early_hash = machine.state_hash()
    for _ in range(20):
        applied(machine, batch())
    late = machine.checkpoint()
    assert late.segments
    copy = StoreQueues(8)
    copy.restore(early.state, reversed([*early.segments, *late.segments]))
    assert copy.state_hash() == early_hash


def test_a_machine_in_use_can_be_replaced_by_a_checkpoint_or_stays_as_it_is() -> None:
    ahead, behind = filled(8, 40), filled(8, 10)
    checkpoint = ahead.checkpoint()
    before = behind.state_hash()
    with pytest.raises(CorruptCheckpoint):
        behind.restore(checkpoint.state, checkpoint.segments[:-1])
    assert behind.state_hash() == before
    behind.restore(checkpoint.state, checkpoint.segments)
    assert behind.state_hash() == ahead.state_hash()


def test_while_a_checkpoint_is_restored_in_portions_entries_are_applied_and_then_it_takes_the_place_of_all() -> None:
    ahead, behind = filled(8, 40), filled(8, 10)
    checkpoint = ahead.checkpoint()
    expected = filled(8, 10)
    work = behind.restoring(checkpoint.state, checkpoint.segments)
    for _ in checkpoint.segments:  # at least a step for each of them
        next(work)
        for each in (behind, expected):
            assert applied(each, batch(3)) == [each.end_cursor(3) - 1]
    put_in_place = at_once(work)
    assert behind.state_hash() == expected.state_hash()
    seen = behind.queues[3]
    left = put_in_place()
    assert behind.state_hash() == ahead.state_hash()
    at_once(left)
    assert behind.state_hash() == ahead.state_hash()
    assert len(seen) == len(expected.queues[3]), "who still looks at what there was finds it as it was"
    for each in (ahead, behind):
        assert applied(each, batch(1, 1, producer_id=1, sequence=40)) == [Duplicate(78, 1)]
        applied(each, *(batch(2) for _ in range(20)))
    assert behind.checkpoint() == ahead.checkpoint()


def test_damage_in_the_last_portion_changes_nothing() -> None:
    ahead, behind = filled(8, 40), filled(8, 10)
    checkpoint = ahead.checkpoint()
    index = ahead.queues[3]
    index.firsts[-1] = index.firsts[-2]
    wrong = ahead.checkpoint()
    before = behind.state_hash()
    work = behind.restoring(wrong.state, checkpoint.segments)
    with pytest.raises(CorruptCheckpoint, match="queue 3: the cursors of the index do not rise"):
        at_once(work)
    assert behind.state_hash() == before


def test_no_step_of_a_restoration_goes_through_more_than_so_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "STEP_ROWS", 10)
    machine = filled(8, 40)
    checkpoint = machine.checkpoint()
    rows = [len(each) for each in machine.queues.values()]
    steps = sum(1 for _ in StoreQueues(8).restoring(checkpoint.state, checkpoint.segments))
    # One for each segment, then one for ten rows of each queue.
    assert steps >= len(checkpoint.segments) + sum(-(-count // 10) for count in rows)


def test_damage_to_a_checkpoint_is_told_from_the_start() -> None:
    checkpoint = filled(8).checkpoint()
    segments = dict(checkpoint.segments)
    flipped = bytearray(checkpoint.state)
    flipped[20] ^= 1
    wrong = {**segments, segment_key(1): segments[segment_key(0)]}
    broken = {**segments, segment_key(2): segments[segment_key(2)][:-9]}
    missing = {key: value for key, value in segments.items() if key != segment_key(3)}
    for state, stored, complaint in (
        (bytes(flipped), segments, "checksum"),
        (checkpoint.state[:5], segments, "bytes long"),
        (checkpoint.state, wrong, "index segment 1 is stored under another segment's key"),
        (checkpoint.state, broken, "index segment 2: its checksum"),
        (checkpoint.state, missing, "index segment 3 is missing"),
    ):
        with pytest.raises(CorruptCheckpoint, match=complaint):
            StoreQueues().restore(state, stored.items())


def test_the_hash_notices_every_difference() -> None:
    def machine(**changed: object) -> StoreQueues:
        of = {"count": 2, "mask": 1, "digest": 5, "acked": 1, "sequence": 4, "at_ms": NOW_MS, **changed}
        one = StoreQueues()
        stored = batch(1, of["count"], mask=of["mask"], digest=of["digest"], producer_id=3, sequence=of["sequence"])
        applied(one, stored, at_ms=of["at_ms"], moves=[move(1, 1, of["acked"])])
        return one

    hashes = {machine().state_hash()}
    for change in ({"count": 3}, {"mask": 2}, {"digest": 6}, {"acked": 2}, {"sequence": 5}, {"at_ms": NOW_MS + 1}):
        hashes.add(machine(**change).state_hash())
    assert machine().state_hash() in hashes
    assert len(hashes) == 7
