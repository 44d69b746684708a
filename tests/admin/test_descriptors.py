"""Reading and writing by readiness, on real pipes and files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from phxqueue.admin.descriptors import SAFE_WRITE_BYTES, DescriptorReader, DescriptorWriter, HangUpWatch

Pipe = list[int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    ends = list(os.pipe())
    yield ends
    for end in ends:
        if end >= 0:
            os.close(end)


def close(pipe: Pipe, end: int) -> None:
    os.close(pipe[end])
    pipe[end] = -1


@pytest_twisted.ensureDeferred
async def test_a_pipe_is_read_as_it_fills_until_its_end(pipe: Pipe) -> None:
    reader = DescriptorReader(reactor, pipe[0])
    waiting = Deferred.fromCoroutine(reader.read())
    assert not waiting.called
    os.write(pipe[1], b"first")
    assert await waiting == b"first"
    os.write(pipe[1], b"second")
    close(pipe, 1)
    assert await reader.read() == b"second"
    assert await reader.read() == b""


@pytest_twisted.ensureDeferred
async def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"x" * 100)
    with path.open("rb") as file:
        reader = DescriptorReader(reactor, file.fileno())
        assert [await reader.read(60), await reader.read(60), await reader.read(60)] == [b"x" * 60, b"x" * 40, b""]


@pytest_twisted.ensureDeferred
async def test_a_read_that_is_cancelled_leaves_nothing_behind(pipe: Pipe) -> None:
    waiting = Deferred.fromCoroutine(DescriptorReader(reactor, pipe[0]).read())
    waiting.addErrback(lambda failure: None)
    waiting.cancel()
    await waiting
    assert not any(isinstance(reader, DescriptorReader) for reader in reactor.getReaders())


@pytest_twisted.ensureDeferred
async def test_a_reader_that_is_slow_holds_up_the_writer_only(pipe: Pipe) -> None:
    data = os.urandom(50 * SAFE_WRITE_BYTES)
    written = Deferred.fromCoroutine(DescriptorWriter(reactor, pipe[1]).write(data))
    assert not written.called
    received = b""
    reader = DescriptorReader(reactor, pipe[0])
    while len(received) < len(data):
        received += await reader.read()
    await written
    assert received == data


@pytest_twisted.ensureDeferred
async def test_writing_to_nobody(pipe: Pipe) -> None:
    close(pipe, 0)
    with pytest.raises(BrokenPipeError):
        await DescriptorWriter(reactor, pipe[1]).write(b"x")


@pytest_twisted.ensureDeferred
async def test_writing_a_file(tmp_path: Path) -> None:
    path = tmp_path / "output"
    with path.open("wb") as file:
        await DescriptorWriter(reactor, file.fileno()).write(b"x" * 100_000)
    assert path.read_bytes() == b"x" * 100_000


@pytest_twisted.ensureDeferred
async def test_a_hang_up_is_noticed_while_nothing_is_written(pipe: Pipe) -> None:
    hung_up = HangUpWatch(reactor, pipe[1]).when_hung_up()
    assert not hung_up.called
    close(pipe, 0)
    await hung_up


@pytest_twisted.ensureDeferred
async def test_a_hang_up_is_noticed_by_who_writes_now_and_then(pipe: Pipe) -> None:
    hung_up = HangUpWatch(reactor, pipe[1]).when_hung_up()
    await DescriptorWriter(reactor, pipe[1]).write(b"x")
    close(pipe, 0)
    await hung_up


@pytest_twisted.ensureDeferred
async def test_a_file_never_hangs_up(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as file:
        hung_up = HangUpWatch(reactor, file.fileno()).when_hung_up()
        hung_up.addErrback(lambda failure: None)
        assert not any(isinstance(reader, HangUpWatch) for reader in reactor.getReaders())
        hung_up.cancel()
