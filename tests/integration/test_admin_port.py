"""Admin ports of real processes: a consumer that lies is seen through every window, and only there where it lied."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest_twisted
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Site

from phxqueue.admin.processes.child import Child
from phxqueue.admin.processes.ports import PortReservation
from phxqueue.net.address import Address
from phxqueue.net.status import RpcError
from phxqueue.producer import NewItem
from phxqueue.proto.methods import GET
from phxqueue.proto.store_pb2 import AckClaim, GetRequest
from tests.console.test_port import fetch
from tests.integration.cluster import PATIENT, TestedCluster
from tests.integration.conftest import MakeCluster


class Pager(Resource):
    """Takes what a webhook posts."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.alarms: list[dict[str, Any]] = []

    def render_POST(self, request: Any) -> bytes:
        self.alarms += json.loads(request.content.read())["alarms"]
        return b""


async def page(port: int, path: str) -> str:
    code, _, body = await deferToThread(fetch, port, "GET", path)
    assert code == 200, body
    return str(body.decode())


async def metrics(port: int) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """By name, then by labels."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(await page(port, "/metrics")):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


async def mismatches(port: int) -> list[dict[str, Any]]:
    """The events about them."""
    events = [json.loads(line) for line in (await page(port, "/events?kind=alarm")).splitlines()]
    return [event for event in events if event["alarm"].startswith("mismatch ")]


async def acknowledge_unhandled(cluster: TestedCluster, group: int, stop: int) -> tuple[Child, int]:
    """What a consumer does that has thrown everything away: it claims to have finished nothing, up to `stop`.

    Returns who has taken that, and where the group stands then.
    """
    store = cluster.topic.stores[0]
    request = GetRequest(
        topic_id=cluster.topic.topic_id,
        store_id=store.store_id,
        queue_id=0,
        consumer_group_id=group,
        prev_cursor=stop,
        claims=[AckClaim(start=0, stop=stop, count=0, digest_sum=0)],
    )
    while True:
        master = await cluster.master()
        node = store.nodes[cluster.stores.index(master)]
        with suppress(RpcError):  # it is late: what is claimed twice is judged once
            connection = await cluster.pool.connection(Address(node.ip, node.port))
            answer = await connection.call(GET, request, 5.0)
            return master, answer.prev_cursor


@pytest_twisted.ensureDeferred
async def test_a_consumer_that_lies_is_seen_through_every_window(make_cluster: MakeCluster) -> None:
    pager = Pager()
    hook = reactor.listenTCP(0, Site(pager), interface="127.0.0.1")
    ports = PortReservation(4)
    try:
        cluster = make_cluster(
            groups=(1, 2),
            consumers=1,
            consumer_groups=(1,),
            handlers={1: "tests.integration.handlers:record"},
            store={"master_lease_ms": 8000},  # alarms are told by the master of that time: let it be one
            store_node={"log": {"format": "json"}},
            topic=PATIENT,
        )
        url = f"http://127.0.0.1:{hook.getHost().port}/alarms"
        for node, port in enumerate(ports.ports[:3]):
            cluster.change(f"store.{node}.conf", admin={"port": port, "webhook_url": url})
        cluster.change("consumer.0.conf", admin={"port": ports.ports[3]})
        await cluster.start()
        assert [await page(port, "/readyz") for port in ports.ports] == ["ok\n"] * 4
        producer = await cluster.producer()
        items = [NewItem(1, 1, b"item %d" % number) for number in range(100)]
        assert (await producer.enqueue_many(items)).all_stored
        consumer = ports.ports[3]
        while (await metrics(consumer))["phxqueue_consumer_items_total"][(("did", "ok"),)] < 100:
            await cluster.pause()
        master, prev_cursor = await acknowledge_unhandled(cluster, 2, 100)
        assert prev_cursor == 100
        port = ports.ports[cluster.stores.index(master)]
        labels = ("node", str(cluster.stores.index(master))), ("pub", "1")
        told = await metrics(port)
        audits = told["phxqueue_reconcile_audits_total"]
        disputed = {dict(key)["group"]: n for key, n in audits.items() if dict(key)["result"] == "disputed"}
        assert disputed == {"1": 0, "2": 1}, labels
        standing = (("group", "2"), ("kind", "mismatch"), ("pub", "1"), ("queue", "0"), ("store", "1"))
        assert told["phxqueue_alarm"][standing] == 1
        # The ledger says the same some seconds later, in an alarm of its own.
        events = await mismatches(port)
        [alarm] = [one for one in json.loads(await page(port, "/alarms")) if one["kind"] == "mismatch"]
        logged = [json.loads(line) for line in cluster.log_of(master).splitlines() if "ALARM mismatch" in line]
        while not (posted := [one for one in pager.alarms if one["kind"] == "mismatch"]):
            await cluster.pause()
        for seen in (*events, *logged, *posted, alarm):
            facts = {**seen, **seen.get("facts", {})}
            assert (facts["store"], facts["queue"], facts["group"], facts["pub"]) == (1, 0, 2, "1")
            assert (facts["first_cursor"], facts["last_cursor"]) == (0, 99)
            assert (facts["stored_items"], facts["claimed_items"]) == (100, 0)
            assert "phxqueue peek" in facts["remedy"]
        different = {json.dumps(one) for one in posted}  # a post whose answer is late is posted again
        assert (len(events), len(logged), len(different)) == (1, 1, 1), (events, logged, posted)
        # A node that is kept waiting for the processor for two seconds is not waited for by a command.
        output = await cluster.until(lambda status, said, _: status == 0 and "ALARM of store 1 node" in said, "status")
        assert "mismatch store 1 queue 0 group 2 (pub 1)" in output
        output = await cluster.until(lambda status, said, _: status == 1, "alarms", "--json")
        assert alarm["name"] in [one["name"] for one in json.loads(output)["alarms"]], output
        theirs = cluster.cluster.tls
        assert theirs is not None
        producers = "--tls", str(theirs.ca), str(theirs.certificate), str(theirs.key)
        refusal = "client default may not call ClearAlarm"
        await cluster.until(
            lambda status, _, errors: status == 1 and refusal in errors, *producers, "alarms", "clear", alarm["name"]
        )
        output = await cluster.until(lambda status, said, _: status == 0, "alarms", "clear", alarm["name"])
        assert alarm["name"] in output
        assert [event["state"] for event in await mismatches(port)] == ["raised", "cleared"]
        said = await cluster.refuses("alarms", "clear", alarm["name"])
        assert "no node that answers has such an alarm" in said, said
        assert await cluster.stop() == []
    finally:
        ports.close()
        await hook.stopListening()
