"""``phxqueue replay``: times, where to send it, and what is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from click.testing import CliRunner
from twisted.internet.defer import Deferred, fail, succeed

from phxqueue.admin.errors import AdminError
from phxqueue.admin.replay_view import as_documents, as_text, merged
from phxqueue.admin.replays import Order, _as_before, _carry_out, places_of, replay
from phxqueue.admin.times import parse_time
from phxqueue.config import UnknownIdError
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.store_pb2 import ListReplaysResponse, QueueReplay, ReplayRequest, ReplayResponse, ReplayStatus
from phxqueue.testing import small_topic

SMALL = small_topic([1])
TOPIC = replace(SMALL, stores=tuple(replace(store, paxos_groups=2) for store in SMALL.stores))
NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T22:13:20", 1_700_000_000_000),
        ("2023-11-15T00:13:20.500+02:00", 1_700_000_000_500),
        ("1700000000", 1_700_000_000_000),
        ("1700000000.25", 1_700_000_000_250),
        ("90s", 1_699_999_910_000),
        ("1.5h", 1_699_994_600_000),
        ("2d", 1_699_827_200_000),
        ("99999999d", 0),
        ("9" * 400 + "d", 0),
        ("0001-01-01T00:00:00+00:00", 0),
    ],
)
def test_times(text: str, milliseconds: int) -> None:
    """What is longer ago than 1970 is as good as everything there is."""
    assert parse_time(text, NOW) == milliseconds


@pytest.mark.parametrize("text", ["", "yesterday", "12", "5 m", "-5m", "2023-14-01", "1e9s"])
def test_no_times(text: str) -> None:
    with pytest.raises(AdminError, match="is no time"):
        parse_time(text, NOW)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--group and --pub"),
        (["--group", "1", "--pub", "1"], "--to-time or --to-cursor"),
        (["--group", "1", "--pub", "1", "--to-time", "1h", "--to-cursor", "1"], "--to-time or --to-cursor"),
        (["--group", "1", "--pub", "1", "--to-cursor", "1"], "give --queue"),
    ],
)
def test_what_has_to_be_said(arguments: list[str], complaint: str) -> None:
    from phxqueue.admin.context import ClusterContext

    result = CliRunner().invoke(replay, arguments, obj=ClusterContext())
    assert (result.exit_code, complaint in result.output) == (2, True), result.output


def test_places() -> None:
    assert places_of(TOPIC, 1, None, None) == [(1, 0), (1, 1)]
    assert places_of(TOPIC, 1, 1, 3) == [(1, 1)]
    for store, queue, error in ((None, 999, AdminError), (7, None, UnknownIdError)):
        with pytest.raises(error):
            places_of(TOPIC, 1, store, queue)


class Stores:
    """Answers by what it is asked; `refuse`: Paxos groups that do, from the given call on."""

    def __init__(self, refuse: dict[int, int]) -> None:
        self.asked: list[ReplayRequest] = []
        self._refuse = refuse

    def call(self, route: Any, method: Any, request: Any, deadline_s: float, **timing: Any) -> Deferred[Any]:
        self.asked.append(request)
        if len(self.asked) > self._refuse.get(request.paxos_group, 99):
            return fail(RpcError(Status.OUT_OF_RANGE, "queue 1: trimmed; the earliest possible is cursor 5"))
        queue = QueueReplay(queue_id=request.paxos_group, target=3, acked=9, position=3, left=6)
        return succeed(ReplayResponse(replay=ReplayStatus(id=request.id, queues=[queue])))


ORDER = Order(replay_id="r1", consumer_group_id=1, pub_id=1, queue_id=None, to_cursor=None, to_time_ms=0, skip=False)
PLACES = [(1, 0), (1, 1)]


@pytest_twisted.ensureDeferred
async def test_all_are_asked_before_anything_is_done() -> None:
    stores = Stores({})
    [moved] = await _carry_out(stores, TOPIC, PLACES, ORDER, dry_run=False)
    assert [(request.paxos_group, request.dry_run) for request in stores.asked] == [
        (0, True), (1, True), (0, False), (1, False),
    ]  # fmt: skip
    assert all(request.to_earliest and request.id == "r1" for request in stores.asked)
    assert (len(moved.queues), moved.left, moved.state) == (2, 12, "12 items left")


@pytest_twisted.ensureDeferred
async def test_one_that_refuses_stops_all() -> None:
    stores = Stores({1: 0})
    with pytest.raises(AdminError, match="nothing was moved: store 1 Paxos group 1: queue 1: trimmed"):
        await _carry_out(stores, TOPIC, PLACES, ORDER, dry_run=False)
    assert all(request.dry_run for request in stores.asked)


@pytest_twisted.ensureDeferred
async def test_what_was_done_by_half_can_be_finished() -> None:
    with pytest.raises(AdminError, match=r"1 queues were moved, and these not: .* --id r1 goes on"):
        await _carry_out(Stores({1: 2}), TOPIC, PLACES, ORDER, dry_run=False)


def test_the_parts_are_shown_as_one() -> None:
    def part(at_ms: int, **queue: Any) -> ReplayStatus:
        return ReplayStatus(
            id="r1", consumer_group_id=1, pub_id=2, to_time_ms=1_700_000_000_000, timestamp_ms=at_ms,
            queues=[QueueReplay(target=3, acked=9, **queue)],
        )  # fmt: skip

    early = ReplayStatus(id="r0", consumer_group_id=1, pub_id=2, to_earliest=True, timestamp_ms=1)
    found = merged([(1, part(50, queue_id=4, position=9)), (2, part(40, queue_id=5, position=5, left=4)), (1, early)])
    assert [one.asked.id for one in found] == ["r0", "r1"]
    assert found[1].asked.timestamp_ms == 40
    lines = as_text(found, each_queue=True)
    assert [line.split() for line in lines[3:]] == [
        ["QUEUE", "STOOD", "AT", "MOVED", "TO", "IS", "AT", "LEFT", "STATE"],
        ["1:4", "9", "3", "9", "0", "done"],
        ["2:5", "9", "3", "5", "4", "under", "way"],
    ]
    assert "2023-11-14T22:13:20.000+00:00" in lines[2]
    assert as_text([], each_queue=False) == ["no replays are remembered"]
    [first, second] = as_documents(found)
    assert (first["to"], second["left"], len(second["queues"])) == ("earliest", 4, 2)
    for _, queue in found[1].queues:
        queue.superseded, queue.left = True, 0
    assert found[1].state == "superseded"


@pytest_twisted.ensureDeferred
async def test_an_age_means_the_same_time_when_it_is_given_again() -> None:
    first = ReplayStatus(id="r1", to_time_ms=1_700_000_000_000, timestamp_ms=1)

    class Known:
        def call(self, route: Any, method: Any, request: Any, deadline_s: float, **timing: Any) -> Deferred[Any]:
            return succeed(ListReplaysResponse(replays=[first]))

    later = replace(ORDER, to_time_ms=1_700_000_009_000)
    assert (await _as_before(Known(), TOPIC, PLACES, replace(later, by_age=True))).to_time_ms == first.to_time_ms
    assert await _as_before(Known(), TOPIC, PLACES, later) is later, "a time is a time"
