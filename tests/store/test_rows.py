"""The walk over the index, and the cutting of entries, against the plain list of batches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phxqueue.proto.store_pb2 import GetBatch
from phxqueue.store.entries import Answer, ParsedEntries, ParsedEntry
from phxqueue.store.index import QueueIndex
from phxqueue.store.queues import StoreQueues
from phxqueue.store.rows import Wanted, oldest_waiting, plan
from phxqueue.store.views import View
from tests.store.fakes import NOW_MS, VALUE, batch, command

FOR_EVER = 1 << 63


def index_of(*rows: tuple[int, int], size: int = 100) -> QueueIndex:
    """Rows of (count, mask), a second apart."""
    index = QueueIndex(1)
    for instance, (count, mask) in enumerate(rows):
        index.append(instance, count, mask, NOW_MS + 1000 * instance, size, 0, 0)
    return index


def want(mask: int = 0, items: int = 1000, size: int = 10**6, before: int = FOR_EVER) -> Wanted:
    return Wanted(view=View(mask), items=items, size=size, stored_before_ms=before)


def test_takes_rows_until_there_are_items_enough() -> None:
    index = index_of((10, 1), (10, 1), (10, 1))
    assert plan(index, 0, want(items=11), 100).rows == [0, 1]
    assert plan(index, 0, want(items=10), 100).rows == [0]
    assert plan(index, 5, want(items=11), 100).rows == [0, 1]  # five of the first row are wanted
    assert plan(index, 30, want(), 100).rows == []


def test_takes_rows_until_there_are_bytes_enough_but_at_least_one() -> None:
    index = index_of((10, 1), (10, 1), (10, 1))
    assert plan(index, 0, want(size=101), 100).rows == [0, 1]
    assert plan(index, 0, want(size=1), 100).rows == [0]


def test_passes_over_rows_of_other_groups() -> None:
    index = index_of((10, 1), (10, 2), (10, 3))
    assert plan(index, 0, want(mask=2), 100).rows == [1, 2]
    found = plan(index, 0, want(mask=4), 100)
    assert (found.rows, found.position, found.unfinished) == ([], 30, False)


def test_stops_at_what_is_not_due() -> None:
    index = index_of((10, 2), (10, 1), (10, 1), (10, 1))
    found = plan(index, 0, want(mask=1, before=NOW_MS + 2000), 100)
    assert (found.rows, found.not_due) == ([1], 2)
    found = plan(index, 0, want(mask=1, before=NOW_MS + 1), 100)
    assert (found.rows, found.position, found.not_due) == ([], 10, 1)


def test_looks_at_no_more_rows_than_allowed() -> None:
    index = index_of(*[(10, 1)] * 10)
    found = plan(index, 0, want(mask=2), 4)
    assert (found.rows, found.position, found.unfinished) == ([], 40, True)
    assert plan(index, 40, want(mask=2), 6).unfinished is False
    assert plan(index, 0, want(mask=1), 4).rows == [0, 1, 2, 3]


def answer_of(machine: StoreQueues, log: list[bytes], wanted: Wanted, position: int, queue_id: int = 1) -> Answer:
    index = machine.queues[queue_id]
    answer = Answer(wanted, position)
    for row in plan(index, position, wanted, 1000).rows:
        instance = index.instances[row]
        answer.add_row(index, row, ParsedEntry(log[instance], machine.refused.get(instance, ())))
        if answer.full:
            break
    return answer


def machine_of(*payloads: bytes) -> tuple[StoreQueues, list[bytes]]:
    machine = StoreQueues()
    for instance, payload in enumerate(payloads):
        machine.apply(instance, VALUE, payload)
    return machine, list(payloads)


def seen(answer: Answer) -> list[tuple[int, int, bytes]]:
    return [(one.first_cursor, one.header.count, one.items) for one in answer.response.batches]


def test_a_uniform_row_comes_as_one_batch() -> None:
    machine, log = machine_of(
        command(*[batch(items=b"%d" % n, digest=2**63 + n, producer_id=4, sequence=n + 1) for n in range(4)])
    )
    answer = answer_of(machine, log, want(mask=1), 0)
    [one] = answer.response.batches
    header = batch(count=4, digest=6).header
    assert one == GetBatch(first_cursor=0, header=header, items=b"0123", timestamp_ms=NOW_MS)
    assert (answer.position, answer.items, answer.full) == (4, 4, False)


def test_a_batch_that_is_alone_keeps_its_identity() -> None:
    alone = batch(count=3, producer_id=4, sequence=9, digest=7)
    machine, log = machine_of(command(alone, batch(2)))
    [one] = answer_of(machine, log, want(mask=1), 0).response.batches
    assert one.header == alone.header


def test_masks_and_pubs_are_not_mixed() -> None:
    machine, log = machine_of(
        command(
            batch(items=b"a", mask=1), batch(items=b"b", mask=1), batch(items=b"c", mask=2), batch(items=b"d", mask=3)
        )
    )
    assert seen(answer_of(machine, log, want(mask=1), 0)) == [(0, 2, b"ab"), (3, 1, b"d")]
    assert seen(answer_of(machine, log, want(mask=2), 0)) == [(2, 1, b"c"), (3, 1, b"d")]
    assert seen(answer_of(machine, log, want(mask=0), 0)) == [(0, 2, b"ab"), (2, 1, b"c"), (3, 1, b"d")]


def test_limits_cut_between_batches_and_one_always_comes() -> None:
    machine, log = machine_of(command(*[batch(count=5, items=b"x" * 10) for _ in range(3)]))
    answer = answer_of(machine, log, want(items=10), 0)
    assert (seen(answer), answer.position, answer.full) == ([(0, 10, b"x" * 20)], 10, True)
    answer = answer_of(machine, log, want(size=15), 0)
    assert (answer.items, answer.position) == (5, 5)
    answer = answer_of(machine, log, want(items=1, size=1), 5)
    assert (seen(answer), answer.position) == ([(5, 5, b"x" * 10)], 10)


def test_a_position_inside_a_batch_gives_the_whole_batch() -> None:
    machine, log = machine_of(
        command(batch(count=5, items=b"a"), batch(count=5, items=b"b"), batch(count=5, items=b"c"))
    )
    assert seen(answer_of(machine, log, want(), 7)) == [(5, 10, b"bc")]


def test_refused_batches_and_other_queues_are_left_out() -> None:
    once = batch(items=b"once", producer_id=1, sequence=1)
    machine, log = machine_of(
        command(once), command(batch(2, items=b"other"), once, batch(items=b"new"), batch(count=0, items=b"empty"))
    )
    assert seen(answer_of(machine, log, want(), 0)) == [(0, 1, b"once"), (1, 1, b"new")]
    assert seen(answer_of(machine, log, want(), 0, queue_id=2)) == [(0, 1, b"other")]


BATCHES = st.lists(
    st.lists(
        st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2)), min_size=1, max_size=6
    ),
    min_size=1,
    max_size=6,
)


@given(BATCHES, st.integers(0, 3), st.integers(1, 12), st.integers(1, 60), st.integers(0, 20))
def test_reading_on_and_on_gives_every_visible_item_once(
    entries: list[list[tuple[int, int, int, int]]], mask: int, items: int, size: int, start: int
) -> None:
    expected: list[tuple[int, bytes]] = []  # (cursor, what) of every visible item of queue 1
    batches, cursor, made = [], 0, 0
    for entry in entries:
        batches.append([])
        for queue_id, count, of_mask, pub_id in entry:
            what = bytes([65 + made])
            made += 1
            batches[-1].append(batch(queue_id, count, items=what * count, mask=of_mask, pub_id=pub_id))
            if queue_id == 1:
                if not mask or mask & of_mask:
                    expected += [(cursor + n, what) for n in range(count)]
                cursor += count
    machine, log = machine_of(*[command(*entry) for entry in batches])
    if 1 not in machine.queues:
        return
    got: list[tuple[int, bytes]] = []
    position = start = min(start, cursor)
    while plan(machine.queues[1], position, want(mask, items, size), 1000).rows:
        answer = answer_of(machine, log, want(mask, items, size), position)
        if not answer.items:  # only batches of other groups were left of a row with both
            assert answer.position > position
        for one in answer.response.batches:
            assert one.header.count == len(one.items)
            got += [(one.first_cursor + n, one.items[n : n + 1]) for n in range(one.header.count)]
        position = answer.position
    assert [one for one in got if one[0] >= start] == [one for one in expected if one[0] >= start]
    assert len(set(got)) == len(got)


def test_parsed_entries_are_bounded_in_number_and_bytes() -> None:
    payload = command(batch(items=bytes(1000)))
    by_number, by_bytes = ParsedEntries(max_entries=3), ParsedEntries(max_bytes=3500)
    for kept in (by_number, by_bytes):
        for instance in range(10):
            kept.put((0, instance), ParsedEntry(payload, ()))
        assert [instance for instance in range(10) if kept.get((0, instance))] == [7, 8, 9]
    large = ParsedEntries(max_bytes=10)
    large.put((1, 1), ParsedEntry(payload, ()))
    assert large.get((1, 1)) is not None


def test_the_oldest_item_that_a_group_waits_for_gives_the_age() -> None:
    index = QueueIndex(1)
    for mask, timestamp_ms in ((0b01, 100), (0b10, 200), (0b11, 300)):
        index.append(timestamp_ms, 10, mask, timestamp_ms, 100, 0, 0)
    assert oldest_waiting(index, 0, View(1)) == 100
    assert oldest_waiting(index, 9, View(1)) == 100
    assert oldest_waiting(index, 10, View(1)) == 300, "the row in between is not for this group"
    assert oldest_waiting(index, 0, View(2)) == 200
    assert oldest_waiting(index, 30, View(1)) is None
    assert oldest_waiting(index, 0, View(4)) is None, "nothing is for this group"
