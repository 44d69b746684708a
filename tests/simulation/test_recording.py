"""What the simulator records of its clients is judged, and rejected when no order explains it."""

from __future__ import annotations

import pytest

from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.reference import StoredItem
from phxqueue.testing.sim.recording import Recording
from phxqueue.testing.sim.world import World

KEY = (7, 1)


def get(world: World, recording: Recording, acknowledge: int | None, end: int, position: int) -> None:
    token = recording.get(KEY, acknowledge)
    world.now += 1
    recording.got(token, end, position)
    world.now += 1


def test_a_good_history() -> None:
    world = World(1)
    recording = Recording(world)
    lost = recording.append("one", 7, [b"a", b"b"])
    world.now += 1
    get(world, recording, None, 2, 0)
    get(world, recording, 2, 2, 2)
    recording.not_got(recording.get(KEY, 2))
    recording.failover(KEY, 1)
    get(world, recording, None, 2, 1)
    assert lost
    recording.check({7: [StoredItem(b"a", 1, 0), StoredItem(b"b", 1, 0)]})


def test_an_old_end_is_rejected() -> None:
    world = World(1)
    recording = Recording(world)
    recording.appended(recording.append("one", 7, [b"a"]), 0)
    world.now += 1
    get(world, recording, None, 0, 0)
    with pytest.raises(Violation, match="queue-end 1/7: not linearizable"):
        recording.check({})


def test_a_cursor_that_falls_back_without_a_failover_is_rejected() -> None:
    world = World(1)
    recording = Recording(world)
    get(world, recording, 2, 0, 2)
    get(world, recording, None, 0, 1)
    with pytest.raises(Violation, match="cursor 1/7/1: not linearizable"):
        recording.check({})
