"""What runs of the simulator need around them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def no_collection() -> Iterator[None]:
    """The cyclic collector would walk through all that the session holds, again and again: once a seed is enough."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def quietly(no_collection: None, logged_errors: Any) -> Iterator[None]:
    """Spoilt nodes, and those whose disk fails, say what they will; what must not be said ends a run."""
    yield
    logged_errors.flush()
    logged_errors.flush_critical()
