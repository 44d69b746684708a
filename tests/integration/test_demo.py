"""``make demo``, whole, twice: with a crash in between."""

from __future__ import annotations

import os
import re
import signal
import sys

import pytest_twisted

from phxqueue.admin.demo.daemons import running_daemons
from phxqueue.admin.processes.files import FIRST_CONSUMER_PORT, HOST
from phxqueue.admin.processes.watch import is_running
from tests.integration.cluster import PATIENT, TestedCluster, run_command
from tests.integration.conftest import MakeCluster
from tests.integration.owned import OWNED, QUICK_TAKEOVER

ECHO = {1: "phxqueue.consumer.echo:EchoHandler", 2: "phxqueue.consumer.echo:EchoHandler"}


def only_one_consumer(cluster: TestedCluster) -> None:
    """Who has no others and no locks owns every queue at once, and need not wait for a scheduler."""
    for name in ("consumer.1", "lock.0", "scheduler.0"):
        (cluster.directory / "etc" / f"{name}.conf").unlink()
    unowned = {"consumer_group_id": 1, "use_dynamic_scale": 0, "skip_lock": 1}
    cluster.change("topicconfig.conf", consumer_groups=[unowned])
    cluster.change("consumerconfig.conf", consumers=[{"addr": {"ip": HOST, "port": FIRST_CONSUMER_PORT}}])


@pytest_twisted.ensureDeferred
async def test_the_demo(make_cluster: MakeCluster) -> None:
    # Its files and ports; its own daemons stay off.
    cluster = make_cluster(
        queues=4, locks=1, schedulers=1, consumers=2, handlers=ECHO, group=OWNED, topic={**QUICK_TAKEOVER, **PATIENT}
    )
    try:
        status, output, errors = await cluster.run("demo", "start")
        assert (status, errors) == (0, ""), output + errors
        assert output.count("produce echo succeeded!") == 2
        assert output.count("consume echo succeeded!\n") == 2
        assert "starting 3 stores, 1 lock node, 1 scheduler and 2 consumers" in output
        owned = {
            name: numbers.split(", ")
            for name, numbers in re.findall(r"^  (consumer\.\d) owns queues? ([\d, ]+)$", output, re.MULTILINE)
        }
        assert sorted(number for numbers in owned.values() for number in numbers) == ["0", "1", "2", "3"]
        [victim] = re.findall(r"killing one of them, (\S+):", output)
        moved = re.findall(r"queue (\d): (\S+) has it and handled its message, [\d.]+ s after the kill", output)
        assert sorted(number for number, _ in moved) == owned[victim]
        assert victim not in {heir for _, heir in moved}
        assert re.search(rf"{victim} has queues? {', '.join(owned[victim])} again after", output)
        assert "kill -9" in output
        assert "after the kill" in output
        assert "has caught up" in output

        running = running_daemons(cluster.directory)
        names = ["consumer.0", "consumer.1", "lock.0", "scheduler.0", "store.0", "store.1", "store.2"]
        assert [daemon.name for daemon in running] == names
        assert "a demo is running here already: consumer.0 (pid" in await cluster.refuses("demo", "start")

        # The machine "crashes": pid files stay, one of them names somebody else.
        for daemon in running:
            os.kill(daemon.pid, signal.SIGKILL)
        while any(is_running(daemon.pid) for daemon in running):
            await cluster.pause()
        (cluster.directory / "run" / "store.0.pid").write_text(str(os.getpid()))
        only_one_consumer(cluster)
        status, output, errors = await cluster.run("demo", "start")
        assert (status, errors) == (0, ""), output + errors
        assert "killing one of them" not in output
    finally:
        running = running_daemons(cluster.directory)
        status, output, errors = await cluster.run("demo", "stop")
    assert (status, errors) == (0, ""), output + errors
    assert output.count(" stopped\n") == 4, output
    assert running_daemons(cluster.directory) == []
    assert not any(is_running(daemon.pid) for daemon in running)
    assert list((cluster.directory / "run").iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_a_demo_nobody_looks_at_any_more_cleans_up(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(consumers=1, handlers=ECHO)
    phxqueue = f"{sys.executable} -m phxqueue.admin.main -c {cluster.config}"
    command = ["/bin/bash", "-c", f"{phxqueue} demo start | head -n 3; exit ${{PIPESTATUS[0]}}"]
    status, output, errors = await run_command(cluster.reactor, command, cluster.directory)
    assert (status, len(output.splitlines()), errors) == (1, 3, ""), output + errors
    assert running_daemons(cluster.directory) == []


@pytest_twisted.ensureDeferred
async def test_a_demo_that_cannot_start_leaves_nothing_running(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(consumers=1, handlers={1: "no.such.module:handler"})
    status, output, errors = await cluster.run("demo", "start")
    assert status == 1, output + errors
    assert "consumer.0 did not start" in errors
    assert "no.such.module" in errors
    assert "Traceback" not in errors
    assert "stopping what was started" in output
    assert running_daemons(cluster.directory) == []
