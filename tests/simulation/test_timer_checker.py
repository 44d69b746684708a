"""The checker of delayed batches catches what it is there for."""

from __future__ import annotations

import pytest

from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.timers import Timers


def accepted() -> Timers:
    """Two items due at 5 s; clocks are off by 0.1 s."""
    timers = Timers(0.1)
    timers.offered([b"one", b"two"], 5.0)
    timers.accepted([b"one", b"two"])
    return timers


def test_good_runs_pass() -> None:
    timers = accepted()
    timers.cancelled([b"two"])
    timers.delivered(b"one", 4.95)
    timers.delivered(b"somebody else's", 0.0)
    timers.check_contents({1: [b"one", b"somebody else's"]})
    assert (timers.fired, timers.cancelled_items) == (1, 1)


def test_too_early() -> None:
    with pytest.raises(Violation, match=r"is due at 5\.000 and was delivered at 4\.800"):
        accepted().delivered(b"one", 4.8)


def test_never() -> None:
    with pytest.raises(Violation, match="is in no queue"):
        accepted().check_contents({1: [b"one"]})


def test_cancelled_and_delivered() -> None:
    timers = accepted()
    timers.cancelled([b"two"])
    with pytest.raises(Violation, match="cancelled"):
        timers.delivered(b"two", 9.0)
    with pytest.raises(Violation, match="cancelled"):
        timers.check_contents({1: [b"one", b"two"]})
