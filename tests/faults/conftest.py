from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import disk


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim, compiled."""
    try:
        return disk.build(tmp_path_factory.mktemp("shim"))
    except disk.NoCompiler as reason:
        pytest.skip(str(reason))


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in memory where that is possible: the faults are the shim's, the medium only costs time."""
    shared_memory = Path("/dev/shm")
    memory = shared_memory if os.access(shared_memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="phxqueue-test-") as made:
        yield Path(made)
