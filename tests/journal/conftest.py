from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer

from phxqueue.journal import bdb
from phxqueue.journal.errors import JournalError
from tests.journal.rig import Faults, Rig


@pytest.fixture(params=bdb.BINDINGS)
def binding(request: pytest.FixtureRequest) -> Any:
    """Each binding that is installed."""
    return pytest.importorskip(f"{request.param}.db", reason=f"{request.param} is not installed")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A place for a data directory: in memory where that is possible, since nothing here pulls the plug."""
    shared_memory = Path("/dev/shm")
    if not os.access(shared_memory, os.W_OK):
        yield tmp_path / "node"
        return
    with tempfile.TemporaryDirectory(dir=shared_memory, prefix="phxqueue-test-") as place:
        yield Path(place) / "node"


def _rig(directory: Path, binding: Any) -> Iterator[Rig]:
    rig = Rig(directory, binding)
    yield rig

    async def close_all() -> None:
        for journal in rig.journals[:]:
            try:
                await rig.close(journal)
            except JournalError:
                assert rig.fatal

    pytest_twisted.blockon(defer.ensureDeferred(close_all()))


@pytest.fixture
def rig(directory: Path) -> Iterator[Rig]:
    """Journals on the preferred binding."""
    yield from _rig(directory, bdb.load())


@pytest.fixture
def each_rig(directory: Path, binding: Any) -> Iterator[Rig]:
    """Journals on each binding."""
    yield from _rig(directory, binding)


@pytest.fixture
def faults() -> Faults:
    return Faults()
