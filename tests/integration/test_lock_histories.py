"""Histories of real lock nodes that are stopped, continued and killed: is there an order that explains every answer?"""

from __future__ import annotations

import random
import signal

import pytest_twisted
from twisted.internet import reactor

from phxqueue.testing.linearizability import Verdict, check_history
from tests.integration.conftest import MakeCluster
from tests.integration.lock_historian import LockHistorian
from tests.integration.locks import lock_master

#: Operations between two faults.
OPERATIONS = 100


@pytest_twisted.ensureDeferred
async def test_every_answer_has_its_place_in_one_order(make_cluster: MakeCluster) -> None:
    """The master is stopped until another one serves, and goes on with its timers and its table; then one is killed."""
    cluster = make_cluster(nodes=0, locks=3, lock={"paxos_groups": 2})
    await cluster.start()
    historian = LockHistorian(reactor, cluster.cluster, cluster.topic, random.Random(1))
    historian.start()
    await historian.progress(OPERATIONS)
    stopped = await lock_master(cluster)
    stopped.signal(signal.SIGSTOP)
    await historian.progress(OPERATIONS)
    stopped.signal(signal.SIGCONT)
    await historian.progress(OPERATIONS)
    killed = await lock_master(cluster)
    await cluster.kill(killed)
    await historian.progress(OPERATIONS)
    await cluster.start_these(killed)
    await historian.stop()
    report = check_history(historian.operations())
    assert report.verdict is Verdict.LINEARIZABLE, str(report)
    assert historian.complaints == []
    assert report.operations > 4 * OPERATIONS
