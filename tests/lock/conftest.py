"""One lock group of three nodes on virtual time, and two clients of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lock.world import Process, World


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.fixture
def anna(world: World) -> Process:
    return Process(world, "anna")


@pytest.fixture
def ben(world: World) -> Process:
    return Process(world, "ben", seed=2)
