"""The command line against a cluster that runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from phxqueue.admin.processes.files import ClusterSpec
from phxqueue.admin.processes.watch import is_running
from tests.integration.cluster import PATIENT, REPOSITORY, TestedCluster, run_command

pytestmark = pytest.mark.shared_reactor

ECHO_GROUP, OUR_GROUP = 1, 2


@pytest_twisted.async_yield_fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TestedCluster]:
    """One consumer daemon echoes what comes for group 1; group 2 is ours."""
    spec = ClusterSpec(
        queues=3,
        groups=(ECHO_GROUP, OUR_GROUP),
        consumers=1,
        consumer_groups=(ECHO_GROUP,),
        handlers={1: "phxqueue.consumer.echo:EchoHandler", 2: "phxqueue.consumer.echo:EchoHandler"},
        store={"master_lease_ms": 10_000},  # a busy machine is no reason for elections that commands would tell of
        topic=PATIENT,
    )
    started = TestedCluster(reactor, tmp_path_factory.mktemp("commands") / "cluster", spec)
    await started.start()
    await started.master()  # the first election waits for a whole lease: longer than most commands do
    yield started
    await started.close()


async def shell(cluster: TestedCluster, line: str) -> tuple[int, str, str]:
    """Run a line of bash in which ``phxqueue`` is our command."""
    phxqueue = f"{sys.executable} -m phxqueue.admin.main -c {cluster.config}"
    script = f'set -o pipefail; phxqueue() {{ {phxqueue} "$@"; }}; {line}'
    return await run_command(reactor, ["/bin/bash", "-c", script], cluster.directory)


async def drain(cluster: TestedCluster) -> list[str]:
    return (await cluster.does("consume", "--group", str(OUR_GROUP), "--no-follow")).splitlines()


@pytest_twisted.ensureDeferred
async def test_echo_goes_all_the_way(cluster: TestedCluster) -> None:
    status, output, errors = await cluster.run("echo", "is anybody there?")
    assert (status, errors) == (0, ""), output + errors
    assert output.startswith("produce echo succeeded!\n  store 1, queue ")
    [consumer] = cluster.consumers
    while "consume echo succeeded! is anybody there?" not in cluster.log_of(consumer):
        await cluster.pause()
    assert "is anybody there?" in await drain(cluster)


@pytest_twisted.ensureDeferred
async def test_status(cluster: TestedCluster) -> None:
    await cluster.applied_everywhere()
    # A node that is kept waiting for the processor for two seconds does not answer in time, and is told as down.
    all_up = "topic test: 3 of 3 nodes up\n"
    await cluster.until(lambda status, output, _: status == 0 and output.startswith(all_up), "status")
    output = await cluster.until(lambda status, output, _: status == 0, "status", "--json")
    document = json.loads(output)
    assert [node["up"] for node in document["nodes"]] == [True] * 3
    assert document["groups"][0]["master_node_id"] in (0, 1, 2)


@pytest_twisted.ensureDeferred
async def test_what_is_produced_is_consumed_once_and_in_order(cluster: TestedCluster) -> None:
    await drain(cluster)
    lines = [f"line {number}" for number in range(5000)]
    (cluster.directory / "input").write_text("\n".join(lines) + "\n")
    status, output, errors = await cluster.run("produce", "--uin", "7", "--handle", "2", "input")
    assert (status, output) == (0, ""), errors
    assert "5,000 messages" in errors

    consume = ("consume", "--group", str(OUR_GROUP))
    output = await cluster.does(*consume, "--peek", "--format", "json")
    peeked = [json.loads(line) for line in output.splitlines()]
    assert [item["buffer"] for item in peeked] == lines
    assert {(item["uin"], item["handle_id"]) for item in peeked} == {(7, 2)}
    assert [item["cursor"] for item in peeked] == list(range(peeked[0]["cursor"], peeked[0]["cursor"] + 5000))

    cursor = peeked[99]["cursor"]
    queue = f"{peeked[99]['store_id']}:{peeked[99]['queue_id']}"
    status, output, errors = await cluster.run(
        "peek", "--queue", queue, "--from", str(cursor), "--uin", "7", "--count", "2"
    )
    assert status == 0, output + errors
    heads, texts = output.splitlines()[::2], output.splitlines()[1::2]
    assert [head.split()[1] for head in heads] == [str(cursor), str(cursor + 1)]
    assert [text.strip() for text in texts] == ["line 99", "line 100"]
    assert f"go on with --from {cursor + 2}" in errors

    status, output, errors = await cluster.run(*consume, "--max", "1234")
    assert (status, errors) == (0, ""), output + errors
    assert output.splitlines() == lines[:1234]
    assert await drain(cluster) == lines[1234:]
    assert await drain(cluster) == []


@pytest_twisted.ensureDeferred
async def test_stdin_binary_and_length_prefixed(cluster: TestedCluster) -> None:
    await drain(cluster)
    make = r"printf '\0\0\0\2\n\377\0\0\0\0\0\0\0\1x'"
    status, output, errors = await shell(cluster, f"{make} | phxqueue produce --length-prefixed --uin 1")
    assert (status, output) == (0, ""), errors
    assert "3 messages (3 bytes) confirmed" in errors
    output = await cluster.does("consume", "--group", str(OUR_GROUP), "--no-follow", "--format", "hex")
    assert [line.partition(" ")[2] for line in output.splitlines()] == ["0aff", "", "78"]


@pytest_twisted.ensureDeferred
async def test_a_reader_that_goes_away_loses_nothing(cluster: TestedCluster) -> None:
    await drain(cluster)
    status, output, errors = await shell(cluster, "seq 1 40000 | phxqueue produce --uin 3")
    assert status == 0, output + errors
    _status, output, errors = await shell(cluster, f"phxqueue consume --group {OUR_GROUP} | head -n 3")
    assert (output.split(), errors) == (["1", "2", "3"], "")
    rest = [int(line) for line in await drain(cluster)]
    assert rest == list(range(rest[0], 40001))
    # Acknowledged is what the pipe took (64 KiB) and `head` may have read beside it, not what was merely fetched.
    assert 1 < rest[0] < 40_000


@pytest_twisted.ensureDeferred
async def test_following_ends_with_its_reader(cluster: TestedCluster) -> None:
    await drain(cluster)
    await cluster.does("echo", "the last one")
    status, output, errors = await shell(cluster, f"phxqueue consume --group {OUR_GROUP} --follow | head -n 1")
    assert (status, output, errors) == (0, "the last one\n", "")


@pytest_twisted.ensureDeferred
async def test_ctrl_c_ends_consume_and_keeps_what_was_printed(cluster: TestedCluster) -> None:
    await drain(cluster)
    await cluster.does("echo", "printed")
    command = [sys.executable, "-m", "phxqueue.admin.main", "-c", str(cluster.config), "consume"]

    def consume_until_interrupted() -> tuple[bytes, bytes, int]:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        with subprocess.Popen(
            [*command, "--group", str(OUR_GROUP)], stdout=subprocess.PIPE, cwd=cluster.directory, env=environment
        ) as consume:
            assert consume.stdout is not None
            first = consume.stdout.readline()
            consume.send_signal(signal.SIGINT)
            return first, consume.stdout.read(), consume.wait()

    assert await deferToThread(consume_until_interrupted) == (b"printed\n", b"", 0)
    assert await drain(cluster) == [], "what was printed is acknowledged"


@pytest_twisted.ensureDeferred
async def test_bench(cluster: TestedCluster) -> None:
    status, output, errors = await cluster.run("bench", "producer", "200", "2", "4", "50", "--duration", "1")
    assert (status, errors) == (0, ""), output + errors
    found = re.search(r"messages confirmed in ([\d.]+) s: ", output)
    assert found is not None, output
    assert float(found[1]) >= 1.0
    assert "statuses: OK " in output
    assert "p99.9" in output
    await cluster.does("bench", "producer", "0", "1", "2", "50", "--batch", "10", "--uin", "1-100", "--duration", "0.5")


@pytest_twisted.ensureDeferred
async def test_a_daemon_in_the_background_with_pid_and_log_file(cluster: TestedCluster) -> None:
    """``twistd phxqueue-store -c FILE`` as the README has it."""
    [first, *_] = cluster.stores
    await cluster.stop(first)
    twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
    arguments = ["--pidfile", "node.pid", "--logfile", "node.log", "phxqueue-store", "-c", "etc/store.0.conf"]
    status, output, errors = await run_command(reactor, [*twistd, *arguments], cluster.directory)
    assert (status, output, errors) == (0, "", "")
    pid = int((cluster.directory / "node.pid").read_text())
    try:
        while "serves clients at" not in (cluster.directory / "node.log").read_text():
            await cluster.pause()
        await cluster.applied_everywhere()
    finally:
        os.kill(pid, signal.SIGTERM)
        while (cluster.directory / "node.pid").exists() or is_running(pid):  # it holds its ports and files to its end
            await cluster.pause()
    await cluster.start_these(first)
