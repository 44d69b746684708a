"""The volatile positions of a master."""

from __future__ import annotations

import pytest

from phxqueue.store.positions import Positions

KEY = (1, 1)


def positions(delivered: int | None) -> Positions:
    of = Positions()
    if delivered is not None:
        of.deliver(KEY, delivered)
    return of


@pytest.mark.parametrize(
    ("delivered", "wanted", "expected"),
    [
        (None, None, (10, False)),  # a first reader: where the group stands
        (None, 10, (10, False)),
        (None, 15, (15, False)),  # a new master believes the reader
        (None, 30, (30, False)),
        (None, 31, (10, True)),  # ... but not beyond the queue's end
        (None, 9, (10, True)),  # ... nor below what is acknowledged
        (20, 20, (20, False)),  # the reader that continues
        (20, None, (10, False)),  # a restarted reader: everything unacknowledged again
        (20, 15, (10, True)),  # its last answer got lost
        (20, 25, (10, True)),  # somebody else's position
        (20, 10, (10, False)),  # asks for exactly what it would be reset to
        (5, 5, (10, True)),  # acknowledged beyond what was handed out
    ],
)
def test_where_a_get_begins(delivered: int | None, wanted: int | None, expected: tuple[int, bool]) -> None:
    assert positions(delivered).start(KEY, wanted, acked=10, end=30) == expected


def test_acknowledgements_only_rise() -> None:
    of = Positions()
    assert of.acknowledge(KEY, 5, replicated=3)
    assert not of.acknowledge(KEY, 5, replicated=3)
    assert not of.acknowledge(KEY, 4, replicated=3)
    assert (of.acked(KEY, 3), of.acked(KEY, 8), of.acked((1, 2), 0)) == (5, 8, 0)
    assert not of.acknowledge(KEY, 8, replicated=8)


def test_everything_is_forgotten_with_mastership() -> None:
    of = positions(20)
    of.acknowledge(KEY, 5, 0)
    assert of.keys() == {KEY}
    of.clear()
    assert (of.delivered(KEY), of.acked(KEY, 0), of.keys()) == (None, 0, set())
