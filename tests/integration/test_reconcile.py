"""`phxqueue reconcile` with real processes: everything that can become of an item, a killed master, and the sums."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from phxqueue.net.routing import MasterClient
from phxqueue.net.status import RpcError, Status
from phxqueue.producer import NewItem
from phxqueue.proto.methods import ADD
from phxqueue.proto.store_pb2 import AddRequest
from tests.integration.cluster import PATIENT, TestedCluster
from tests.integration.conftest import MakeCluster

REPORTS = {"producer_report_interval_s": 0.2}


async def known(cluster: TestedCluster, *arguments: str) -> tuple[int, str, str]:
    """What ``phxqueue reconcile`` says when it can tell: there may be no master for a moment, or a node be late."""
    while (ran := await cluster.run("reconcile", *arguments))[0] == 2:
        await cluster.pause()
    return ran


async def opened(cluster: TestedCluster) -> None:
    """Wait until the ledger counts: a moment after every node has told the master what it knows."""
    while (await cluster.run("reconcile"))[0]:
        await cluster.pause()


async def balanced(cluster: TestedCluster, produced: int) -> dict[str, Any]:
    """Wait until all is reported and nothing is outstanding; the total then."""
    while True:
        status, output, errors = await cluster.run("reconcile", "--json")
        assert status in (0, 2), output + errors
        document = json.loads(output)
        totals = document["totals"]
        if status == 0 and totals and totals[0]["produced"] == produced:
            [total] = totals
            if not total["unreported"] + total["outstanding"] + total["delayed"]:
                return dict(total)
        await cluster.pause()


@pytest_twisted.ensureDeferred
async def test_everything_that_can_become_of_an_item_balances(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        queues=4,
        consumers=1,
        retries=2,
        retry_delay_s=0.05,
        topic={**REPORTS, **PATIENT},
        handlers={1: "tests.integration.handlers:moody"},
    )
    await cluster.start()
    await opened(cluster)
    producer = await cluster.producer()
    first = [NewItem(1, 1, b"raise once %d" % number, uin=1 + number % 5) for number in range(40)]
    first += [NewItem(1, 1, b"poison %d" % number, uin=6) for number in range(3)]
    assert (await producer.enqueue_many(first)).all_stored
    await producer.enqueue(1, 1, b"delayed", delay=0.3)
    never = await producer.enqueue(1, 1, b"cancelled", delay=60.0)
    assert await producer.cancel_delayed(never)
    await producer.enqueue(1, 1, b"late", ttl=0.001, delay=0.2)

    await cluster.kill(await cluster.master())
    under_way = [producer.enqueue(1, 1, b"fine %d" % number, uin=1 + number % 7) for number in range(200)]
    for stored in under_way:
        await stored
    total = await balanced(cluster, produced=246)
    assert (total["difference"], total["stored"], total["cancelled"]) == (0, 246, 1)
    assert total["retried"] >= 40 + 3 * 2, "at least: what a failover made the consumer see again is stored again"
    assert total["dead"] >= 3
    assert total["passed_on"] <= total["retried"] + total["dead"] + total["expired"]
    assert total["acknowledged"] == total["stored"] + total["retried"] - 1
    status, output, errors = await known(cluster, "--minutes")
    assert status == 0, output + errors
    assert output.rstrip().endswith("the ledgers balance"), output


@pytest_twisted.ensureDeferred
async def test_nobody_can_tell_without_a_master_and_verify_reads_every_replica(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(topic={**REPORTS, **PATIENT})
    await cluster.start()
    producer = await cluster.producer()
    assert (await producer.enqueue_many([NewItem(1, 1, b"item %d" % number) for number in range(500)])).all_stored
    await cluster.applied_everywhere()
    verify = ("verify", "--store", "1", "--queue", "0")
    status, output, errors = await known(cluster, *verify)
    assert (status, errors) == (0, ""), output + errors
    assert output.count(" 500 ") == 3, output
    assert "all replicas agree with their index and with each other" in output, output

    [one, other] = await cluster.followers()
    await cluster.kill(one)
    status, output, errors = await cluster.run("reconcile", *verify, "--from", "100", "--to", "200")
    assert status == 2, output + errors
    assert "cannot tell of all replicas" in output, output
    await cluster.kill(other)
    while (ran := await cluster.run("reconcile", "--timeout", "2"))[0] == 0:
        await cluster.pause()  # the lease of its master has not run out yet
    assert ran[0] == 2, ran
    assert "cannot tell: store 1, Paxos group 0" in ran[1], ran


Store = Callable[[AddRequest], Deferred[Any]]
ANOTHERS = RpcError(Status.INVALID_ARGUMENT, "the answer was another's")


def confirmation_lost(request: AddRequest, store: Store) -> Deferred[Any]:
    """The store has it, and the producer is told that it was refused."""
    return store(request).addCallback(lambda _: fail(ANOTHERS))


def wrong_mask(request: AddRequest, store: Store) -> Deferred[Any]:
    """It is stored for group 1 alone."""
    changed = AddRequest.FromString(request.SerializeToString())
    for batch in changed.batches:
        batch.header.consumer_group_ids = 0b01
    return store(changed)


async def differences(cluster: TestedCluster) -> tuple[dict[tuple[int, str], int], dict[str, Any]]:
    """What is wrong, by consumer group and kind; and all that `phxqueue reconcile --json` says."""
    status, output, errors = await known(cluster, "--json")
    document = json.loads(output)
    assert (status, errors) == (int(document["difference"] > 0), ""), output + errors
    kinds = ("unstored", "unconfirmed", "lost", "invented", "altered")
    totals = document["totals"]
    return {(row["consumer_group_id"], kind): row[kind] for row in totals for kind in kinds if row[kind]}, document


@pytest_twisted.ensureDeferred
async def test_what_goes_wrong_between_producer_and_store_turns_its_rows_red(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster(groups=(1, 2), topic={**REPORTS, **PATIENT})
    await cluster.start()
    await opened(cluster)
    producer = await cluster.producer()
    call = MasterClient.call
    faults: list[Callable[[AddRequest, Store], Deferred[Any]]] = []

    def broken(self: Any, route: Any, method: Any, request: Any, deadline_s: float, **how: Any) -> Deferred[Any]:
        def store(told: Any) -> Deferred[Any]:
            return call(self, route, method, told, deadline_s, **how)

        if method is not ADD or not faults:
            return store(request)
        fault = faults.pop()

        def again(failure: Failure) -> Failure:
            if failure.value is not ANOTHERS:
                faults.append(fault)  # a store that was not reached is asked again, and then it has to go wrong
            return failure

        return fault(request, store).addErrback(again)

    monkeypatch.setattr(MasterClient, "call", broken)
    faults.append(confirmation_lost)  # the first batch ever: of nobody has anything been reported
    refused = await producer.enqueue_many([NewItem(1, 1, b"stored %d" % number) for number in range(5)])
    assert not refused.all_stored
    assert (await producer.enqueue_many([NewItem(1, 1, b"right")])).all_stored
    lost = {(1, "unconfirmed"): 5, (2, "unconfirmed"): 5}
    while not (found := await differences(cluster))[0]:
        await cluster.pause()
    assert found[0] == lost
    [account] = found[1]["unconfirmed"]
    assert account["producer_id"] == f"{producer.producer_id:x}"
    assert [(place["queue_id"], place["start"]) for place in account["places"]][:1] == [(0, 0)]

    faults.append(wrong_mask)
    assert (await producer.enqueue_many([NewItem(1, 1, b"for both %d" % number) for number in range(3)])).all_stored
    while (found := await differences(cluster))[0] == lost:
        await cluster.pause()
    assert found[0] == {**lost, (2, "unstored"): 3}
    assert await cluster.stop() == []
