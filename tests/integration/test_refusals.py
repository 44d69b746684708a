"""A daemon that cannot run says why in one sentence, with a remedy and a non-zero exit status, and harms nobody."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path

import pytest
import pytest_twisted

from tests.integration.cluster import PATIENT, TestedCluster
from tests.integration.conftest import MakeCluster


def told(said: str, *words: str) -> None:
    """Check that a refusal names these things and is no traceback; each fact is told once."""
    assert "Traceback" not in said, said
    for word in words:
        assert re.search(word, said), f"{word!r} is not in:\n{said}"
    critical = [line for line in said.splitlines() if "#critical]" in line]
    assert len(critical) <= 1, said


@pytest_twisted.ensureDeferred
async def test_a_running_cluster_is_not_disturbed_by_second_processes(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(topic=PATIENT)
    await cluster.start()
    producer = await cluster.producer()
    await producer.enqueue(1, 1, b"before")
    pids = [child.pid for child in cluster.stores]

    status, said = await cluster.refused("store", cluster.node_file("store", 0))  # the same node once more
    assert status == 1
    told(said, r"data/store\.0", "another process|in use|locked")

    shutil.copytree(cluster.directory / "etc", cluster.directory / "etc2")
    other = cluster.directory / "etc2" / "store.0.conf"
    other.write_text(other.read_text().replace("data/store.0", "data/other"))
    status, said = await cluster.refused("store", other)  # its ports, with other data
    assert status == 1
    told(said, "cannot listen on", rf"127\.0\.0\.1:{cluster.topic.stores[0].nodes[0].paxos_port}")

    await producer.enqueue(1, 1, b"after")
    while not all(report.up for report in await cluster.reports()):  # one may be late with its answer
        await cluster.pause()
    assert [child.pid for child in cluster.stores if child.running] == pids


@pytest_twisted.ensureDeferred
async def test_the_data_of_another_node(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    await cluster.start()
    await cluster.stop()
    cluster.change("store.0.conf", data_dir="data/store.1")
    status, said = await cluster.refused("store", cluster.node_file("store", 0))
    assert status == 1
    told(said, r"data/store\.1", "node 1", "node 0")


@pytest_twisted.ensureDeferred
async def test_the_data_of_another_cluster(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    await cluster.start()
    await cluster.stop()
    cluster.change("globalconfig.conf", cluster_name="another")
    status, said = await cluster.refused("store", cluster.node_file("store", 0))
    assert status == 1
    told(said, r"data/store\.0", "another", "local")


@pytest_twisted.ensureDeferred
async def test_mistakes_in_files_are_all_told_at_once(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.change("store.0.conf", data_dri="x", limits={"max_frame": "many"})
    status, said = await cluster.refused("store", cluster.node_file("store", 0))
    assert status == 1
    told(said, r"store\.0\.conf:\d+", "data_dir", "limits.max_frame", "many")
    assert len(said) < 1500, said


@pytest_twisted.ensureDeferred
async def test_no_node_file(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    for role in ("store", "consumer"):
        status, said = await cluster.refused(role, Path("etc/nothing.conf"))
        assert status == 1
        told(said, "nothing.conf", f"phxqueue-{role}")


@pytest_twisted.ensureDeferred
async def test_certificates_that_are_not_there(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(consumers=1)
    shutil.rmtree(cluster.directory / "etc" / "certs")
    for role in ("store", "consumer"):
        status, said = await cluster.refused(role, cluster.node_file(role, 0))
        assert status == 1
        told(said, r"certs/", "phxqueue certs init")


@pytest_twisted.ensureDeferred
async def test_the_certificate_of_another_node(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    certs = cluster.directory / "etc" / "certs"
    for ending in ("pem", "key"):
        shutil.copy(certs / f"store-1-1.{ending}", certs / f"store-1-0.{ending}")
    status, said = await cluster.refused("store", cluster.node_file("store", 0))
    assert status == 1
    told(said, "store-1-0.pem", "store/1/1|store 1 node 1")


@pytest_twisted.ensureDeferred
async def test_handlers_that_cannot_be_loaded(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(consumers=1, handlers={1: "no.such.module:handler", 2: "tests.integration.handlers:nothing"})
    status, said = await cluster.refused("consumer", cluster.node_file("consumer", 0))
    assert status == 1
    told(said, "no.such.module", "handlers:nothing", "handle_id 1", "handle_id 2")


@pytest.mark.parametrize("port", ["port", "paxos_port"])
@pytest_twisted.ensureDeferred
async def test_a_port_that_somebody_else_has(make_cluster: MakeCluster, port: str) -> None:
    cluster = make_cluster(topic=PATIENT)
    node = cluster.topic.stores[0].nodes[0]
    wanted = getattr(node, port)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", wanted))
        other.listen()
        status, said = await cluster.refused("store", cluster.node_file("store", 0))
    assert status == 1
    told(said, rf"cannot listen on 127\.0\.0\.1:{wanted}")
    await start_after(cluster)


async def start_after(cluster: TestedCluster) -> None:
    """What failed leaves nothing behind that would keep the next try from working."""
    await cluster.start_these(*cluster.stores)
    producer = await cluster.producer()
    await producer.enqueue(1, 1, b"works")
