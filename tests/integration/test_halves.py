"""Half messages with real processes: their producer and the master die before anybody has decided."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol

from phxqueue.producer import Decision, Half, HalfDecided
from tests.integration.cluster import PATIENT, REPOSITORY, TestedCluster
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import HandledLog


class Preparing(ProcessProtocol):
    """The program beside this file, from its start to its death."""

    def __init__(self, cluster: TestedCluster, *texts: str) -> None:
        self.prepared: Deferred[dict[str, str]] = Deferred()
        self.ended: Deferred[Any] = Deferred()
        self._wanted = len(texts)
        self._output = b""
        program = str(Path(__file__).with_name("preparing.py"))
        command = [sys.executable, program, str(cluster.directory / "etc" / "globalconfig.conf"), *texts]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        reactor.spawnProcess(self, sys.executable, command, environment)  # type: ignore[attr-defined]

    def outReceived(self, data: bytes) -> None:
        self._output += data
        *lines, _ = self._output.decode().split("\n")  # the last one has not ended yet
        if len(lines) == self._wanted and not self.prepared.called:
            self.prepared.callback({text: half_id for half_id, text in (line.split(" ", 1) for line in lines)})

    def errReceived(self, data: bytes) -> None:
        sys.stderr.write(data.decode())

    def processEnded(self, reason: Any) -> None:
        reason.trap(ProcessTerminated)
        if not self.prepared.called:
            self.prepared.errback(reason)
        self.ended.callback(None)

    async def kill(self) -> None:
        assert self.transport is not None
        os.kill(self.transport.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        await self.ended


@pytest_twisted.ensureDeferred
async def test_the_producer_and_the_master_die_and_another_producer_decides(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(consumers=1, handlers={1: "tests.integration.handlers:record"}, topic=PATIENT)
    await cluster.start_these(*cluster.stores)
    preparing = Preparing(cluster, "yes", "no", "by hand", "by the way")
    ids = await preparing.prepared
    await preparing.kill()
    master = await cluster.master()
    await cluster.kill(master)
    await cluster.start_these(*cluster.consumers)

    # A command waits for a master no longer than some seconds.
    await cluster.until(lambda status, said, errors: status == 0, "halves", "commit", ids["by hand"])
    asked: list[str] = []

    def check_back(half: Half) -> Decision:
        assert half.item is not None
        asked.append(half.item.buffer.decode())
        return {"yes": Decision.COMMIT, "no": Decision.ROLL_BACK}.get(asked[-1], Decision.UNDECIDED)

    producer = await cluster.producer(name="payments", check_back=check_back)
    log = HandledLog(cluster.ledger)
    while {line.text for line in log.look().lines} != {"yes", "by hand"}:
        await cluster.pause()
    # That somebody was asked is not yet that the answer was carried out.
    await cluster.until(lambda status, said, errors: "is rolled back" in said, "halves", "show", ids["no"])
    assert "no" in asked
    receipt = await producer.half(ids["yes"]).commit()
    assert (await producer.half(ids["yes"]).commit()) == receipt
    with pytest.raises(HalfDecided):
        await producer.half(ids["no"]).commit()

    listed = (await cluster.does("halves", "list")).split()
    assert [half_id in listed for half_id in ids.values()] == [False, False, False, True], listed
    shown = await cluster.does("halves", "show", ids["by the way"])
    assert "is undecided" in shown
    assert "by the way" in shown
    await cluster.does("halves", "rollback", ids["by the way"], ids["no"])
    assert "is committed" in await cluster.refuses("halves", "rollback", ids["yes"])
    await cluster.start_these(master)
    await cluster.applied_everywhere()
    assert {line.text for line in log.look().lines} == {"by hand", "yes"}
    # Stored once, however often it was committed; a change of masters may have it handled twice.
    stored = await cluster.does("peek", "--queue", "1:0", "--from", "0", "--count", "100")
    assert sorted(line.strip() for line in stored.splitlines()[1::2]) == ["by hand", "yes"], stored
    assert await cluster.stop() == []
