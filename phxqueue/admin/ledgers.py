"""Asks the masters of all Paxos groups of a topic for their ledgers, and makes one picture of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from phxqueue.admin.gather import gather
from phxqueue.config import Topic
from phxqueue.net.routing import Caller
from phxqueue.net.status import RpcError
from phxqueue.producer.routes import store_route
from phxqueue.proto.ledger_pb2 import GetLedgerRequest, GetLedgerResponse
from phxqueue.proto.methods import GET_LEDGER
from phxqueue.reconcile.kinds import groups_of
from phxqueue.reconcile.rows import Picture


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows; 0: all.

    Attributes:
        since_minute: from this minute on (minutes since 1970). With it the row of everything older is left out.
    """

    since_minute: int = 0
    pub_id: int = 0
    consumer_group_id: int = 0


async def ask_ledgers(caller: Caller, topic: Topic, wanted: Wanted, timeout_s: float) -> Picture:
    """What all ledgers of a topic say; a group that does not answer is `missing`."""
    picture = Picture()
    places = list(_groups(topic))
    answers = await gather(_ask(caller, topic, *place, wanted, timeout_s) for place in places)
    for (store_id, group_id), answer in zip(places, answers, strict=True):
        where = f"store {store_id}, Paxos group {group_id}"
        if isinstance(answer, str):
            picture.missing.append(f"{where}: {answer}")
        elif not answer[0].opened:
            picture.missing.append(f"{where}: its ledger is not open: a node does not know ledgers, or it just started")
        else:
            picture.take(store_id, group_id, answer[0])
            for page in answer[1:]:
                picture.take_rows(page)
    _leave_out(picture, wanted)
    return picture


def _leave_out(picture: Picture, wanted: Wanted) -> None:
    """Keep what was asked for: stores tell all disputes and accounts, and the sum of what is older."""

    def fits(minute: int, pub_id: int, groups: Collection[int]) -> bool:
        return (
            minute >= wanted.since_minute
            and wanted.pub_id in (0, pub_id)
            and (not wanted.consumer_group_id or wanted.consumer_group_id in groups)
        )

    picture.rows = {key: row for key, row in picture.rows.items() if key[0] >= wanted.since_minute}
    picture.disputes = [
        told for told in picture.disputes if fits(told[2].minute, told[2].pub_id, [told[2].consumer_group_id])
    ]
    for accounts in (picture.unstored, picture.unconfirmed):
        accounts[:] = [
            told for told in accounts if fits(told[2].minute, told[2].pub_id, groups_of(told[2].consumer_group_ids))
        ]


async def _ask(
    caller: Caller, topic: Topic, store_id: int, group_id: int, wanted: Wanted, timeout_s: float
) -> list[GetLedgerResponse] | str:
    """All pages of one ledger, or why there are none."""
    route = store_route(topic, store_id, group_id)
    request = GetLedgerRequest(
        topic_id=topic.topic_id,
        store_id=store_id,
        group_id=group_id,
        since_minute=wanted.since_minute,
        pub_id=wanted.pub_id,
        consumer_group_id=wanted.consumer_group_id,
    )
    pages: list[GetLedgerResponse] = []
    try:
        while True:
            page = await caller.call(route, GET_LEDGER, request, timeout_s, try_timeout_s=timeout_s / 2)
            pages.append(page)
            if not page.next_minute:
                return pages
            request.since_minute = page.next_minute
    except RpcError as error:
        return error.message or str(error)


def _groups(topic: Topic) -> Iterator[tuple[int, int]]:
    return ((store.store_id, group) for store in topic.stores for group in range(store.paxos_groups))
