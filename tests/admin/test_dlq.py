"""``phxqueue dlq``: reading dead letters without moving anything, and taking some of them out."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail, succeed

from phxqueue.admin.dlq.commands import _check_all_taken, _filter
from phxqueue.admin.dlq.letters import REQUEUED, Filter, Letter, LetterId, revived
from phxqueue.admin.dlq.queue import DeadLetters, Taken
from phxqueue.admin.errors import AdminError
from phxqueue.consumer import Result
from phxqueue.producer import NewItem, Refused
from phxqueue.producer.attempts import next_attempt
from phxqueue.producer.routes import store_route
from phxqueue.proto.methods import CREATE_GROUP, DELETE_GROUP
from phxqueue.proto.store_pb2 import CreateGroup, CreateGroupRequest, DeleteGroupRequest
from phxqueue.store.group_table import RunTimeGroup
from phxqueue.testing import InMemoryCluster, small_topic


class Sick:
    """A handler that is sick of everything until it is cured."""

    def __init__(self) -> None:
        self.cured = False
        self.seen: list[tuple[int, bytes, int]] = []

    def handle(self, context: Any, item: Any) -> Result:
        self.seen.append((context.consumer_group_id, item.buffer, context.attempt))
        if self.cured:
            return Result.OK
        if item.buffer.startswith(b"odd"):
            return Result.DEAD
        raise OSError(f"sick of {item.buffer.decode()}")


async def sickened(cluster: InMemoryCluster, logged_errors: Any, *buffers: bytes) -> DeadLetters:
    """Enqueue, and let everything die."""
    await cluster.producer.enqueue_many([NewItem(1, 1, buffer, 7) for buffer in buffers])
    await cluster.settle()
    logged_errors.flush(OSError)
    return letters_of(cluster)


def letters_of(cluster: InMemoryCluster) -> DeadLetters:
    return DeadLetters(cluster._stores, cluster.topic, 1, 1)


async def contents(cluster: InMemoryCluster) -> list[bytes]:
    return [letter.item.buffer async for letter in letters_of(cluster).read()]


async def taken(cluster: InMemoryCluster, wanted: Filter, *, most: int = 1000, requeue: bool = False) -> Taken:
    def send(letter: Letter) -> Deferred[Any]:
        return cluster.producer.enqueue_again(revived(letter, 1)) if requeue else succeed(None)

    return await letters_of(cluster).take(
        wanted, most, send, lambda letter: cluster.producer.enqueue_again(letter.item, dead=True)
    )


@pytest_twisted.ensureDeferred
async def test_letters_say_why_they_are_dead_and_reading_moves_nothing(logged_errors: Any) -> None:
    async with InMemoryCluster({1: Sick()}) as cluster:
        queue = await sickened(cluster, logged_errors, b"one", b"odd")
        for _ in range(2):
            found = [(str(one.place), one.group, one.reason, one.attempts) async for one in queue.read()]
            assert found == [("1-1-0", 1, "handler said DEAD", "1"), ("1-1-1", 1, "attempts exhausted", "3")]
        [last] = [one async for one in queue.read() if Filter(error="SICK OF", reason="exhausted").fits(one)]
        assert "OSError: sick of one" in last.last_error


@pytest_twisted.ensureDeferred
async def test_requeued_letters_begin_anew_for_their_group_alone(logged_errors: Any) -> None:
    sick = Sick()
    topic = small_topic([1], consumer_group_ids=(1, 2), attempts=1)
    async with InMemoryCluster({1: sick}, topic) as cluster:
        await sickened(cluster, logged_errors, b"one", b"two")
        sick.cured = True
        sick.seen.clear()
        done = await taken(cluster, Filter(group=2), requeue=True)
        assert (done.seen, done.taken) == (4, 2)
        await cluster.settle()
        assert sick.seen == [(2, b"one", 1), (2, b"two", 1)]
        assert sorted(await contents(cluster)) == [b"one", b"two"]
        assert all(REQUEUED not in letter.item.sys_cookies for letter in await cluster.dead_letters())


@pytest_twisted.ensureDeferred
async def test_what_is_not_meant_stays_in_its_order(logged_errors: Any) -> None:
    async with InMemoryCluster({1: Sick()}, small_topic([1], attempts=1)) as cluster:
        await sickened(cluster, logged_errors, *[b"%d" % number for number in range(8)])
        before = await contents(cluster)
        done = await taken(cluster, Filter(error=f"sick of {before[3].decode()}"))
        assert (done.taken, done.moved) == (1, 7)
        assert await contents(cluster) == before[:3] + before[4:]


@pytest_twisted.ensureDeferred
async def test_takes_no_more_than_asked_and_purges_the_rest(logged_errors: Any) -> None:
    async with InMemoryCluster({1: Sick()}, small_topic([1], attempts=1)) as cluster:
        await sickened(cluster, logged_errors, *[b"%d" % number for number in range(8)])
        before = await contents(cluster)
        assert (await taken(cluster, Filter(), most=3)).taken == 3
        assert await contents(cluster) == before[3:]
        assert (await taken(cluster, Filter())).taken == 5
        assert await contents(cluster) == []
        [audits] = [group.reading.audits.total() for group in cluster._stores._services[1]._groups.values()]
        assert audits.disputed == audits.unclaimed == 0


@pytest_twisted.ensureDeferred
async def test_nothing_is_taken_when_its_replacement_is_not_durable(logged_errors: Any) -> None:
    async with InMemoryCluster({1: Sick()}, small_topic([1], attempts=1)) as cluster:
        queue = await sickened(cluster, logged_errors, b"one", b"two")
        with pytest.raises(Refused, match="no room"):
            await queue.take(Filter(), 9, lambda letter: fail(Refused("no room")), lambda letter: succeed(None))
        assert sorted(await contents(cluster)) == [b"one", b"two"]


@pytest_twisted.ensureDeferred
async def test_letters_of_groups_that_the_files_do_not_know_are_there_too(logged_errors: Any) -> None:
    """Groups of run time, and such as are gone: nobody else would ever see what they could not handle."""
    async with InMemoryCluster({1: Sick()}, small_topic([1], attempts=1)) as cluster:
        created = CreateGroup(pub_ids=[1], start_ms=RunTimeGroup.EARLIEST)
        await of_group_five(cluster, CREATE_GROUP, CreateGroupRequest(create=created))
        queue = await sickened(cluster, logged_errors, b"one", b"two")
        for letter in [one async for one in queue.read()]:
            copy = next_attempt(cluster.topic, letter.item, 5, 1, "no good", dead=True).item
            await cluster.producer.enqueue_again(copy, dead=True)
        assert [(one.group, one.item.buffer) async for one in queue.read()] == [
            (1, b"one"), (1, b"two"), (5, b"one"), (5, b"two")
        ]  # fmt: skip
        done = await taken(cluster, Filter(group=5, error="no good"), most=1)
        assert (done.seen, done.taken, done.moved) == (4, 1, 1)
        assert (await taken(cluster, Filter(group=1))).taken == 2
        assert [(one.group, one.item.buffer) async for one in queue.read()] == [(5, b"two")]
        [audits] = [group.reading.audits.total() for group in cluster._stores._services[1]._groups.values()]
        assert audits.disputed == audits.unclaimed == 0


@pytest_twisted.ensureDeferred
async def test_what_a_deleted_group_left_among_the_letters_can_be_dropped(logged_errors: Any) -> None:
    async with InMemoryCluster({1: Sick()}, small_topic([1], attempts=1)) as cluster:
        await of_group_five(cluster, CREATE_GROUP, CreateGroupRequest(create=CreateGroup(pub_ids=[1])))
        queue = await sickened(cluster, logged_errors, b"one")
        [letter] = [one async for one in queue.read()]
        copy = next_attempt(cluster.topic, letter.item, 5, 1, "no good", dead=True).item
        await cluster.producer.enqueue_again(copy, dead=True)
        await of_group_five(cluster, DELETE_GROUP, DeleteGroupRequest())
        assert [one.group async for one in queue.read()] == [1, 5]
        with pytest.raises(Refused, match="consumer groups 5, pub 1 has 1"):
            await taken(cluster, Filter(group=5), requeue=True)
        assert (await taken(cluster, Filter(group=5))).taken == 1
        assert [one.group async for one in queue.read()] == [1]


async def of_group_five(cluster: InMemoryCluster, method: Any, request: Any) -> None:
    request.topic_id, request.store_id, request.consumer_group_id = cluster.topic.topic_id, 1, 5
    await cluster._stores.call(store_route(cluster.topic, 1, 0), method, request, 5.0)


@pytest.mark.parametrize("text", ["", "1-2", "1-2-x", "1-2-3-4"])
def test_refuses_what_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="1-7-42"):
        LetterId.parse(text)
    assert LetterId.parse("1-7-42") == (1, 7, 42)


def test_times_are_written_as_everywhere() -> None:
    names = ("group", "handle", "uin", "reason", "error", "since", "until")
    given = dict.fromkeys(names) | {"since": "2026-01-31T12:00", "until": "2026-01-31T13:00:00+01:00"}
    assert (_filter(given).after_ms, _filter(given).before_ms) == (1769860800000, 1769860800000)
    with pytest.raises(AdminError, match="'soon' is no time"):
        _filter(given | {"since": "soon"})


def test_a_letter_that_was_named_and_is_not_there_is_told() -> None:
    _check_all_taken(["1-1-4", "1-1-5"], None, Taken(9, 2))
    _check_all_taken([], None, Taken(9, 0))
    with pytest.raises(AdminError, match="1 of the 2 named are no dead letters"):
        _check_all_taken(["1-1-4", "1-1-5"], None, Taken(9, 1))
