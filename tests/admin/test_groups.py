"""``phxqueue groups``: what files and stores say, together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed

from phxqueue.admin.errors import AdminError
from phxqueue.admin.group_view import as_documents, as_text
from phxqueue.admin.groups import _start_ms, places_of_pubs, read
from phxqueue.config import UnknownIdError
from phxqueue.proto.store_pb2 import GroupState, ListGroupsResponse
from phxqueue.testing import small_topic

SMALL = small_topic([1], consumer_group_ids=(1, 2))
TOPIC = replace(SMALL, stores=tuple(replace(store, paxos_groups=2) for store in SMALL.stores))
HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_000


class Stores:
    """Answers with these groups, by Paxos group."""

    def __init__(self, *answers: list[GroupState]) -> None:
        self._answers = answers

    def call(self, route: Any, method: Any, request: Any, deadline_s: float, **timing: Any) -> Deferred[Any]:
        return succeed(ListGroupsResponse(groups=self._answers[request.paxos_group]))


def of_files(*groups: int) -> list[GroupState]:
    return [GroupState(consumer_group_id=group, in_files=True) for group in groups]


def created(group: int, *pubs: int) -> GroupState:
    return GroupState(consumer_group_id=group, pub_ids=pubs or (1,), start_ms=1, created_ms=NOW_MS)


@pytest_twisted.ensureDeferred
async def test_groups_of_the_files_and_of_run_time_and_ones_that_leave() -> None:
    leaving = GroupState(consumer_group_id=9, leaving_until_ms=NOW_MS + HOUR_MS, leaving_queue_ids=[1, 3])
    later = GroupState(consumer_group_id=9, leaving_until_ms=NOW_MS + 2 * HOUR_MS, leaving_queue_ids=[2])
    found = await read(Stores([*of_files(1, 2), created(5), leaving], [*of_files(1, 2), created(5), later]), TOPIC)
    assert [one.problems for one in found] == [[]] * 4
    lines = [" ".join(line.split()) for line in as_text(found, NOW_MS / 1000)]
    assert lines == [
        "GROUP FROM PUBS BEGAN AT CREATED STATE",
        "1 files 1",
        "2 files 1",
        "5 run time 1 latest 2023-11-14T22:13:20.000+00:00",
        "9 no file none leaving 3 queues, until 2023-11-14T23:13:20.000+00:00 (in 1 h 0 min)",
    ]
    documents = as_documents(found)
    assert (documents[2]["run_time"], documents[3]["leaving_queues"]) == (True, 3)


@pytest_twisted.ensureDeferred
async def test_what_disagrees_is_told() -> None:
    stores = Stores([*of_files(1, 2), created(5), created(2, 7)], [*of_files(1, 2, 8), created(2, 7)])
    problems = {one.consumer_group_id: one.problems for one in await read(stores, TOPIC)}
    assert problems[1] == []
    assert problems[2] == ["created for pubs 7, in the files for 1"]
    assert problems[5] == ["unknown to store 1 Paxos group 1: give `phxqueue groups create` again"]
    assert problems[8] == ["in the files of a store, not in ours"]


def test_places() -> None:
    assert places_of_pubs(TOPIC, [1]) == [(1, 0), (1, 1)]
    with pytest.raises(UnknownIdError):
        places_of_pubs(TOPIC, [9])


def test_a_group_cannot_begin_in_the_future() -> None:
    assert (_start_ms("earliest"), _start_ms("latest")) == (0, 1)
    assert _start_ms("2026-01-31T12:00") == 1769860800000
    with pytest.raises(AdminError, match="is in the future"):
        _start_ms("2999-01-01")
