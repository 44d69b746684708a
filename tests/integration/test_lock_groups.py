"""Several lock groups as real processes: they agree when they first start, and one is added later."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from typing import Any

import pytest_twisted
from twisted.internet import reactor

from phxqueue.admin.certificates import leaves, make_missing
from phxqueue.config import load_cluster
from phxqueue.lock.client import InvalidRequest, LockClient
from phxqueue.lock.client.connecting import lock_pool
from phxqueue.lock.client.spreading import Spreading
from phxqueue.net.routing import MasterClient
from tests.integration.cluster import TestedCluster
from tests.integration.conftest import MakeCluster

NAMES = [f"lock {number}" for number in range(20)]


def lock_groups(cluster: TestedCluster, addresses: list[Any], *scales: int) -> None:
    """Write lock groups of one node each."""
    groups = [
        {"lock_id": number, "scale": scale, "addrs": [address]}
        for number, (address, scale) in enumerate(zip(addresses, scales, strict=False), 1)
    ]
    (cluster.directory / "etc" / "lockconfig.conf").write_text(json.dumps({"locks": groups}))
    cluster.cluster = load_cluster(cluster.config)
    assert cluster.cluster.certificates is not None
    make_missing(cluster.cluster.certificates, leaves(cluster.cluster))


async def shares(cluster: TestedCluster) -> list[str]:
    """What each Paxos group has."""
    pool = lock_pool(reactor, cluster.cluster, cluster.topic)
    try:
        caller = MasterClient(pool, reactor, random.Random())
        return [str(standing.share) for standing in await Spreading(caller, cluster.topic).look()]
    finally:
        await pool.close()


@pytest_twisted.ensureDeferred
async def test_they_serve_without_a_command_and_one_that_comes_later_after_one(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=0, locks=3)
    addresses = json.loads((cluster.directory / "etc" / "lockconfig.conf").read_text())["locks"][0]["addrs"]
    lock_groups(cluster, addresses, 100, 50)
    await cluster.start_these(cluster.locks[1])
    async with await LockClient.connect(cluster.cluster, cluster.topic.topic_id) as client:
        waiting = [client.acquire(name, lease=60, wait=60) for name in NAMES]
        await cluster.start_these(cluster.locks[0])
        held = [await each for each in waiting]
        assert await shares(cluster) == ["1=100, 2=50"] * 2
        lock_groups(cluster, addresses, 100, 50, 100)  # a scale that it should not have yet
        await cluster.start_these(cluster.locks[2])
        while "None" in await shares(cluster):
            await cluster.pause()
        assert await shares(cluster) == ["1=100, 2=50"] * 3
        client.reconfigure(cluster.topic)
        status, output, errors = await cluster.run("locks", "spread", "1=100", "2=50", "3=100")
        assert (status, errors) == (0, ""), output + errors
        assert await shares(cluster) == ["1=100, 2=50, 3=100"] * 3
        for lock in held:
            with suppress(InvalidRequest):  # it has moved; now it is known where
                await lock.renew()
            await lock.renew()
