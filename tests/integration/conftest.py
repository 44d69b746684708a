"""Clusters of real processes: each test gets its own directory, ports and certificates, and leaves nothing running."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from phxqueue.admin.processes.files import ClusterSpec
from tests.integration.cluster import TestedCluster

MakeCluster = Callable[..., TestedCluster]

#: A test here waits for processes, and a machine with other things to do may take ten times as long to start them. What
#: must be quick is asserted where it is meant; this only ends what hangs, with a traceback, before pytest-timeout does.
LIMIT_S = 110.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.reactor_limit(LIMIT_S))  # behind its own, if it has one


@pytest_twisted.async_yield_fixture
async def make_cluster(tmp_path: Path) -> AsyncIterator[MakeCluster]:
    """Makes clusters: ``make_cluster(queues=4, consumers=1)``; the arguments are those of ClusterSpec."""
    made: list[TestedCluster] = []

    def make(**spec: Any) -> TestedCluster:
        cluster = TestedCluster(reactor, tmp_path / f"cluster{len(made)}", ClusterSpec(**spec))
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        await cluster.close()


def later(seconds: float) -> Deferred[None]:
    """A pause: only where the passing of time is what is tested."""
    from twisted.internet.task import deferLater

    return deferLater(reactor, seconds, lambda: None)
