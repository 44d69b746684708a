"""The retention rule by value, and against a plain reading of it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from phxqueue.store.index import QueueIndex
from phxqueue.store.retention import LEAST_SHARE, QueueRetention, RetentionPolicy, acknowledged_rows

DAY_MS = 86_400_000
KEEP = RetentionPolicy(age_ms=DAY_MS, size=1000)


def index_of(*rows: tuple[int, int, int, int]) -> QueueIndex:
    """Rows of (count, mask, time, size)."""
    index = QueueIndex(1)
    for instance, (count, mask, at_ms, size) in enumerate(rows):
        index.append(instance, count, mask, at_ms, size, 0, 0)
    return index


def look(index: QueueIndex, acked: dict[int, int], now_ms: int, policy: RetentionPolicy = KEEP) -> int | None:
    return QueueRetention().look(index, lambda group: acked.get(group, 0), policy, now_ms, 1000)


def test_what_is_not_acknowledged_by_all_groups_of_its_mask_stays_for_ever() -> None:
    index = index_of((10, 0b11, 0, 100), (10, 0b11, 0, 100))
    assert look(index, {1: 20}, 10 * DAY_MS) is None
    assert look(index, {1: 20, 2: 9}, 10 * DAY_MS) is None
    assert look(index, {1: 20, 2: 10}, 10 * DAY_MS) == 10
    assert look(index, {1: 20, 2: 19}, 10 * DAY_MS) == 10
    assert look(index, {1: 20, 2: 20}, 10 * DAY_MS) == 20


def test_only_the_groups_of_the_mask_count() -> None:
    index = index_of((1, 0b1, 0, 1), (1, 0, 0, 1), (1, 1 << 63, 0, 1))
    assert look(index, {1: 1}, DAY_MS) == 2
    assert look(index, {1: 1, 64: 3}, DAY_MS) == 3


def test_acknowledged_rows_go_when_they_are_old() -> None:
    index = index_of((1, 1, 1000, 10), (1, 1, 2000, 10), (1, 1, 3000, 10))
    acked = {1: 3}
    assert look(index, acked, DAY_MS + 999) is None
    assert look(index, acked, DAY_MS + 1000) == 1
    assert look(index, acked, DAY_MS + 2500) == 2
    assert look(index, acked, DAY_MS + 3000) == 3


def test_or_when_the_newer_ones_fill_what_may_be_kept() -> None:
    index = index_of(*[(1, 1, 0, 400)] * 5)
    assert look(index, {1: 5}, 0) == 3  # 800 bytes stay
    assert look(index, {1: 3}, 0) == 1  # only what is acknowledged counts
    assert look(index, {1: 2}, 0) is None


def test_nothing_of_an_empty_queue() -> None:
    assert look(QueueIndex(1), {}, DAY_MS) is None


def test_rows_are_not_moved_for_a_few() -> None:
    rows = 3 * LEAST_SHARE
    index = index_of(*[(1, 1, at_ms, 1) for at_ms in range(rows)])
    kept = RetentionPolicy(age_ms=0, size=1 << 30)
    assert QueueRetention().look(index, lambda group: rows, kept, 1, rows) is None
    assert QueueRetention().look(index, lambda group: rows, kept, 2, rows) == 3


def test_a_look_is_bounded_and_the_next_goes_on() -> None:
    index = index_of(*[(1, 1, 0, 10)] * 25)
    retention, policy = QueueRetention(), RetentionPolicy(age_ms=DAY_MS, size=100)
    looks = [retention.look(index, lambda group: 25, policy, 0, 10) for _ in range(3)]
    assert looks == [None, 10, 10]
    index.drop(10)
    assert [retention.look(index, lambda group: 25, policy, 0, 10) for _ in range(2)] == [None, 15]


def test_rows_below_a_cursor_only_and_whole_ones() -> None:
    index = index_of((5, 1, 0, 1), (5, 1, 0, 1))
    assert [acknowledged_rows(index, lambda group: 10, below) for below in (4, 5, 9, 10, 99)] == [0, 1, 1, 2, 2]
    assert acknowledged_rows(index, lambda group: 9, 99) == 1
    assert acknowledged_rows(index, lambda group: 10, 99, most=1) == 1


ROWS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(0, 5), st.integers(0, 30)), max_size=30)


@settings(max_examples=200)
@given(ROWS, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 40)), max_size=8))
def test_follows_the_rule_however_it_is_looked_at(
    rows: list[tuple[int, int, int, int]], looks: list[tuple[int, int, int]]
) -> None:
    """With looks large enough each gives exactly what the rule says; rows are trimmed as told in between."""
    times = sorted(later for _, _, later, _ in rows)
    index = index_of(*[(count, mask, time, size) for (count, mask, _, size), time in zip(rows, times, strict=True)])
    policy, retention = RetentionPolicy(age_ms=20, size=50), QueueRetention()
    acked = {1: 0, 2: 0}
    now_ms = 0
    for one, two, later in looks:
        acked = {1: max(acked[1], one), 2: max(acked[2], two)}
        now_ms += later
        first = retention.look(index, acked.__getitem__, policy, now_ms, 1000)
        assert first == plain_rule(index, acked, policy, now_ms)
        if first is not None:
            index.drop(acknowledged_rows(index, acked.__getitem__, first))
            assert index.first_cursor == first


def plain_rule(index: QueueIndex, acked: dict[int, int], policy: RetentionPolicy, now_ms: int) -> int | None:
    done = 0
    for row in range(len(index)):
        groups = [group for group in (1, 2) if index.masks[row] >> (group - 1) & 1]
        if any(acked[group] < index.row_end(row) for group in groups):
            break
        done += 1
    first = None
    for row in range(done):
        if index.timestamps[row] + policy.age_ms <= now_ms or sum(index.sizes[row:done]) > policy.size:
            first = index.row_end(row)
    return first
