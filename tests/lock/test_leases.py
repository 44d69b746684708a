"""Which leases have run out: the heap against a plain dictionary of deadlines."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from phxqueue.lock.leases import Leases
from phxqueue.lock.records import LOCKS, TableKey

A: TableKey = (LOCKS, "a")
B: TableKey = (LOCKS, "b")


def test_a_lease_is_due_after_its_length_and_once() -> None:
    leases = Leases()
    leases.begin(A, 1, 1000, 10.0)
    assert leases.remaining(A, 10.25) == 0.75
    assert (leases.next_due(), leases.take_due(10.999, 10)) == (11.0, [])
    assert leases.take_due(11.0, 10) == [(A, 1)]
    assert leases.take_due(99.0, 10) == []
    assert leases.next_due() is None


def test_what_is_due_comes_in_portions() -> None:
    leases = Leases()
    for number in range(5):
        leases.begin((LOCKS, str(number)), number + 1, 1000, 0.0)
    assert [len(leases.take_due(1.0, 2)) for _ in range(4)] == [2, 2, 1, 0]


def test_what_could_not_be_ended_is_due_again_unless_renewed() -> None:
    leases = Leases()
    leases.begin(A, 1, 1000, 0.0)
    leases.begin(B, 2, 1000, 0.0)
    assert len(leases.take_due(1.0, 10)) == 2
    leases.again(A, 1, 1.5)
    leases.renew(B, 1.25)
    leases.again(B, 2, 1.5)
    assert leases.take_due(1.5, 10) == [(A, 1)]
    assert leases.take_due(2.25, 10) == [(B, 2)]


def test_a_mastership_begins_all_of_them_anew_and_ends_them_all() -> None:
    leases = Leases()
    leases.begin(A, 1, 1000, 0.0)
    leases.clear()
    assert leases.next_due() is None
    leases.begin(A, 1, 1000, 5.0)
    leases.begin(B, 2, 0, 5.0)
    assert leases.remaining(A, 5.0) == 1.0
    assert leases.remaining(B, 5.0) is None


def test_renewals_do_not_let_the_heap_grow() -> None:
    leases = Leases()
    for number in range(100):
        leases.begin((LOCKS, str(number)), number + 1, 1000, 0.0)
    for turn in range(50):
        for number in range(100):
            leases.begin((LOCKS, str(number)), 1000 * turn + number, 1000, float(turn))
    assert len(leases._heap) <= 64 + 4 * 100


steps = st.tuples(
    st.sampled_from(["begin", "renew", "forget", "due", "again"]),
    st.sampled_from([A, B, (LOCKS, "c")]),
    st.sampled_from([0, 100, 250, 1000]),
    st.floats(0, 1),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, max_size=60))
def test_as_a_dictionary_of_deadlines(history: list[tuple[str, TableKey, int, float]]) -> None:
    leases, now, version = Leases(), 0.0, 0
    model: dict[TableKey, list[float]] = {}  # key -> version, length, deadline, whether it was told as due
    for step, key, lease_ms, passed in history:
        now += passed
        known = model.get(key)
        if step == "begin":
            version += 1
            leases.begin(key, version, lease_ms, now)
            model.pop(key, None)
            if lease_ms:
                model[key] = [version, lease_ms / 1000, now + lease_ms / 1000, False]
        elif step == "renew":
            leases.renew(key, now)
            if known:
                known[2], known[3] = now + known[1], False
        elif step == "forget":
            leases.forget(key)
            model.pop(key, None)
        elif step == "again" and known:
            leases.again(key, int(known[0]), now)
            if known[3]:
                known[2], known[3] = max(known[2], now), False
        else:
            due = {(key, int(at[0])) for key, at in model.items() if at[2] <= now and not at[3]}
            assert set(leases.take_due(now, 100)) == due
            for key, _ in due:
                model[key][3] = True
        waiting = [at[2] for at in model.values() if not at[3]]
        assert leases.next_due() == (min(waiting) if waiting else None)
        for key, at in model.items():
            assert leases.remaining(key, now) == max(0.0, at[2] - now)
