"""Handlers in processes of their own: what they do to their process, and what becomes of them with the daemon."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path

import pytest_twisted

from phxqueue.admin.processes.child import Child
from phxqueue.admin.processes.watch import is_running
from phxqueue.config import dead_letter_queue
from phxqueue.producer import NewItem
from tests.integration.cluster import PATIENT, TestedCluster
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import HandledLog


def children(child: Child) -> list[int]:
    """The processes that a process has started and that run."""
    return [int(pid) for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()]


async def handled_by(cluster: TestedCluster, wanted: set[str]) -> set[int]:
    """Wait until everything wanted is handled; which processes did it?"""
    log = HandledLog(cluster.ledger)
    while not wanted <= {line.text for line in log.look().lines}:
        await cluster.pause()
    assert Counter(line.text for line in log.lines if line.text in wanted) == Counter(wanted)
    return {line.pid for line in log.lines}


@pytest_twisted.ensureDeferred
async def test_a_crash_costs_one_item_an_attempt_and_no_process_outlives_the_daemon(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        nodes=1, consumers=1, retries=1, handlers={1: "tests.integration.handlers:harmful"}, topic=PATIENT,
        consumer_node={"pool": {"handle_ids": [1], "nproc": 2}, "handler_timeout_s": 5},
    )  # fmt: skip
    await cluster.start()
    [consumer] = cluster.consumers
    producer = await cluster.producer()
    texts = [f"fine {number}" for number in range(40)]
    texts[5], texts[30] = "crash", "hang"
    await producer.enqueue_many([NewItem(1, 1, text.encode()) for text in texts])
    pids = await handled_by(cluster, set(texts) - {"crash", "hang"})
    assert consumer.pid not in pids

    letters: dict[str, str] = {}
    while not letters.keys() >= {"crash", "hang"}:
        dead = str(dead_letter_queue(1))
        _, output, _ = await cluster.run("consume", "--group", "1", "--queue", dead, "--peek", "--format", "json")
        for line in output.splitlines():
            letter = json.loads(line)
            letters[letter["buffer"]] = json.dumps(letter)
    assert "exit status 9" in letters["crash"]
    assert "did not finish within 5 s" in letters["hang"]

    while len(running := children(consumer)) != 2:  # the hanging one may not be gone, or replaced, yet
        await cluster.pause()
    await producer.enqueue(1, 1, b"hang again")
    assert await cluster.stop(consumer) == []
    assert not any(is_running(pid) for pid in running)
    assert "Server Shut Down" in cluster.log_of(consumer)

    await cluster.start_these(consumer)
    while len(running := children(consumer)) != 2:  # what hangs again is replaced again
        await cluster.pause()
    consumer.signal(signal.SIGKILL)
    await consumer.ended()
    while any(is_running(pid) for pid in running):
        await cluster.pause()
