"""Whether the stores' own ledger says of the items what our books say: ``phxqueue reconcile --json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.task import deferLater

from phxqueue.admin.errors import AdminError
from tests.chaos.cluster import ChaosCluster
from tests.integration.ledger import Books, HandledLog

#: Producers report every second; the last acknowledgements are replicated within a fraction of one.
TIMEOUT_S = 60.0
LOOK_AGAIN_S = 1.0


async def ledgers_are_open(cluster: ChaosCluster) -> None:
    """Wait until every Paxos group keeps books: what was stored before is in none. Raises AdminError."""
    deadline = cluster.reactor.seconds() + TIMEOUT_S
    while True:
        _, output, errors = await cluster.run("reconcile", "--json")
        missing = json.loads(output)["missing"] if output else [errors]
        if not missing:
            return
        if cluster.reactor.seconds() > deadline:
            raise AdminError(f"ledgers are not open: {missing}")
        await deferLater(cluster.reactor, LOOK_AGAIN_S, lambda: None)


async def ledger_agrees(cluster: ChaosCluster, books: Books, log: HandledLog) -> tuple[str, list[str]]:
    """Wait until all is reported and acknowledged; returns a line about it, and what does not agree."""
    deadline = cluster.reactor.seconds() + TIMEOUT_S
    while True:
        status, output, errors = await cluster.run("reconcile", "--json")
        document = json.loads(output) if output else {}
        found = compare(document, books, len(log.look().distinct)) if document else [f"it says nothing: {errors}"]
        if status:
            found.append(f"`phxqueue reconcile` ends with status {status}")
        if not found or cluster.reactor.seconds() > deadline:
            return summary(document), [f"reconciliation: {line}" for line in found]
        await deferLater(cluster.reactor, LOOK_AGAIN_S, lambda: None)


def compare(document: Mapping[str, Any], books: Books, handled: int) -> list[str]:
    """What a ledger says otherwise than the books of producers and consumers. Pure.

    Args:
        handled: different items that consumers have handled; when nothing is outstanding, all that are stored.
    """
    found = [f"{document['difference']} items of difference"] if document["difference"] else []
    found += [f"incomplete: {reason}" for reason in document["missing"]]
    found += [f"disputed: {dispute}" for dispute in document["disputes"]]
    total = _of_books(document)
    # Of what a caller did not get to know in time the producer may have heard later.
    confirmed, unknown = len(books.confirmed), len(books.unknown)
    wanted = {
        "produced": range(confirmed, confirmed + unknown + 1),
        "stored": range(handled, handled + 1),
        "unreported": range(unknown + 1),
        "outstanding": range(1),
        "difference": range(1),
    }
    found += [
        f"pub 1, group 1: {name} is {total.get(name, 0)}, by the books {numbers.start} to {numbers.stop - 1}"
        for name, numbers in wanted.items()
        if total.get(name, 0) not in numbers
    ]
    return found


def summary(document: Mapping[str, Any]) -> str:
    """The numbers that matter."""
    total = _of_books(document)
    names = ("produced", "stored", "acknowledged", "retried", "duplicates", "unreported", "outstanding", "difference")
    return ", ".join(f"{name} {total.get(name, 0):,}" for name in names)


def _of_books(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The total of the pub and group that the books are about."""
    totals = document.get("totals", ())
    ours: list[Mapping[str, Any]] = [
        total for total in totals if (total["pub_id"], total["consumer_group_id"]) == (1, 1)
    ]
    return ours[0] if ours else {}
