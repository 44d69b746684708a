"""Consumer groups that come and go while the store runs: what they read, what is kept for them, and until when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from phxqueue.config import StoreLimits
from phxqueue.net.status import Status
from phxqueue.proto.digest import item_digest
from phxqueue.proto.item_pb2 import Meta, QItem, QItems
from phxqueue.proto.origin import Origin
from phxqueue.proto.store_pb2 import (
    AckClaim,
    CreateGroup,
    CreateGroupRequest,
    DeleteGroupRequest,
    GetResponse,
    GroupState,
    ListGroupsRequest,
    QueueTrim,
    ReplayRequest,
)
from phxqueue.reconcile.columns import ACKNOWLEDGED, SKIPPED, TAKEN
from phxqueue.store.group_calls import GroupCalls
from phxqueue.store.group_table import GROUPS_VERSION
from phxqueue.store.queues import StoreQueues
from phxqueue.store.replay_calls import ReplayCalls
from tests.store.fakes import NO_CONTEXT, NOW_MS, Call, StoreUnderTest, batch, command

EARLIEST, LATEST = 0, 1
NEW = 5
DAY_S = 86_400


def items_of(*texts: str, mask: int = 0) -> list[QItem]:
    return [
        QItem(buffer=text.encode(), consumer_group_ids=mask, meta=Meta(producer_id=9, number=int(text[1:])))
        for text in texts
    ]


def some(queue_id: int, *texts: str, mask: int = 0b11, item_mask: int = 0, origin: int = 0, **fields: Any) -> Any:
    """A batch of real items, as producers make them that know groups 1 and 2 only."""
    items = items_of(*texts, mask=item_mask)
    digest = sum(item_digest(item.meta.producer_id, item.meta.number, item.buffer) for item in items) % 2**64
    content = QItems(items=items).SerializeToString()
    made = batch(queue_id, len(items), items=content, mask=mask, digest=digest, **fields)
    made.header.origin = origin
    return made


def create(made: StoreUnderTest, group: int = NEW, start: int = LATEST, pubs: tuple[int, ...] = (1,)) -> Call:
    request = CreateGroupRequest(
        topic_id=1000, store_id=1, consumer_group_id=group, create=CreateGroup(pub_ids=pubs, start_ms=start)
    )
    return Call(lambda: GroupCalls(made.service.serving_group).create(request, NO_CONTEXT))


def delete(made: StoreUnderTest, group: int = NEW) -> Call:
    request = DeleteGroupRequest(topic_id=1000, store_id=1, consumer_group_id=group)
    return Call(lambda: GroupCalls(made.service.serving_group).delete(request, NO_CONTEXT))


def listed(made: StoreUnderTest) -> dict[int, GroupState]:
    request = ListGroupsRequest(topic_id=1000, store_id=1)
    groups = GroupCalls(made.service.serving_group).list(request, NO_CONTEXT).groups
    return {one.consumer_group_id: one for one in groups}


def ours(response: GetResponse, group: int = NEW) -> list[str]:
    """The items that a consumer of the group hands to its handlers."""
    found = []
    for one in response.batches:
        for item in QItems.FromString(one.items).items:
            if (item.consumer_group_ids or one.header.consumer_group_ids) >> (group - 1) & 1:
                found.append(item.buffer.decode())
    return found


def read(made: StoreUnderTest, group: int = NEW, queue_id: int = 1, limit: int = 100) -> list[str]:
    """Everything a new reader of the group gets, with claims that a strict store checks."""
    got: list[str] = []
    count = digests = 0
    start = response = None
    while True:
        fields: dict[str, Any] = {} if response is None else {"next_cursor": response.next_cursor}
        call = made.get(queue_id, group, limit=limit, **fields)
        made.clock.advance(0)
        made.clock.advance(0)
        response = call.answer
        start = response.prev_cursor if start is None else start
        got += ours(response, group)
        for one in response.batches:
            for cursor, item in enumerate(QItems.FromString(one.items).items, one.first_cursor):
                if cursor >= start:
                    count += 1
                    digests += item_digest(item.meta.producer_id, item.meta.number, item.buffer)
        if response.next_cursor >= response.end_cursor:
            break
    if response.next_cursor > start:
        claim = AckClaim(start=start, stop=response.next_cursor, count=count, digest_sum=digests % 2**64)
        answer = made.get(queue_id, group, limit=0, prev_cursor=claim.stop, claims=[claim]).answer
        assert (answer.prev_cursor, answer.reset) == (claim.stop, False), "the store counts what it has delivered"
    return got


def strict(**kwargs: Any) -> StoreUnderTest:
    """A store whose acknowledgements are refused when claims are not what is stored."""
    made = StoreUnderTest(**kwargs)
    topic = made.node.topic
    pubs = tuple(replace(pub, reconcile="strict") for pub in topic.pubs)
    made.node = replace(made.node, topic=replace(topic, pubs=pubs))
    made.service.reconfigure(made.node)
    return made


def files(made: StoreUnderTest, *groups: int) -> None:
    """From now on pub 1 has these groups, by the files."""
    topic = made.node.topic
    pubs = tuple(replace(pub, consumer_group_ids=groups) if pub.pub_id == 1 else pub for pub in topic.pubs)
    made.service.reconfigure(replace(made.node, topic=replace(topic, pubs=pubs)))


def trim(made: StoreUnderTest, queue_id: int, first: int) -> None:
    made.group.append(command(trims=[QueueTrim(queue_id=queue_id, first_cursor=first)], version=2))


def look(made: StoreUnderTest) -> None:
    made.service._groups[0].groups.look()


# ---- what it reads ----------------------------------------------------------------------------------


def test_from_the_latest_on_it_gets_what_is_enqueued_after() -> None:
    made = strict()
    made.added(some(1, "a1", "a2"))
    assert not create(made).answer.unchanged
    made.added(some(1, "b3", "b4"))
    made.added(some(2, "b5"))
    assert read(made) == ["b3", "b4"]
    assert read(made, queue_id=2) == ["b5"]
    assert read(made, group=1) == ["a1", "a2", "b3", "b4"]


def test_from_the_earliest_on_it_gets_what_is_retained_as_well() -> None:
    made = strict()
    made.added(some(1, "a1", "a2"), some(1, "a3", mask=0b01, item_mask=0b01))
    create(made, start=EARLIEST)
    made.added(some(1, "b4"))
    assert read(made) == ["a1", "a2", "b4"], "a3 is for group 1 by its own mask"


def test_from_a_time_on() -> None:
    made = strict()
    made.added(some(1, "a1"))
    made.clock.advance(10)
    made.added(some(1, "a2"))
    create(made, start=NOW_MS + 5000)
    made.added(some(1, "b3"))
    assert read(made) == ["a2", "b3"]


def test_later_attempts_and_dead_letters_of_others_are_not_its_own() -> None:
    made = strict()
    made.added(some(1, "a1", mask=0b01, item_mask=0b01, origin=Origin.RETRIED), some(1, "a2"))
    create(made, start=EARLIEST)
    made.added(some(1, "b3", mask=0b10, item_mask=0b10, origin=Origin.RETRIED), some(1, "b4"))
    own = some(1, "b5", mask=1 << NEW - 1, item_mask=1 << NEW - 1, origin=Origin.RETRIED)
    made.added(own)
    assert read(made) == ["a2", "b4", "b5"]


def test_other_pubs_are_not_its_own() -> None:
    """Queues 20 and 21 are of pub 2; a batch of pub 1 does not carry the bit of a group of pub 2."""
    made = strict()
    create(made, pubs=(2,))
    made.added(some(1, "a1"))
    made.added(some(20, "b2", mask=0b100, pub_id=2))
    assert made.get(1, NEW).error.status is Status.INVALID_ARGUMENT
    assert read(made, queue_id=20) == ["b2"]


def test_many_rows_of_others_are_passed_over() -> None:
    made = strict(limits=StoreLimits(scan_rows=3))
    for number in range(20):
        made.added(some(1, f"a{number}", mask=0b01, item_mask=0b01, origin=Origin.RETRIED))
    made.added(some(1, "a77"))
    create(made, start=EARLIEST)
    call = made.get(1, NEW, limit=2)
    for _ in range(20):
        made.clock.advance(0)
    assert ours(call.answer) == ["a77"]


@pytest.mark.parametrize(("start", "expected"), [(EARLIEST, ["a1", "b3"]), (LATEST, ["b3"])])
def test_delayed_items_count_by_when_they_were_enqueued(start: int, expected: list[str]) -> None:
    made = strict()
    delayed = made.add(some(1, "a1", deliver_at_ms=NOW_MS + 1000))
    made.add(some(1, "a2", mask=0b01, item_mask=0b01, origin=Origin.RETRIED, deliver_at_ms=NOW_MS + 1000))
    made.clock.advance(0)
    assert delayed.answer.results[0].delayed
    create(made, start=start)
    made.add(some(1, "b3", deliver_at_ms=NOW_MS + 1000))
    made.clock.advance(0)
    made.clock.advance(2)
    assert made.group.state_machine.end_cursor(1) == 3
    assert read(made) == expected


def test_it_can_be_made_to_read_again_from_before_it_began() -> None:
    made = strict()
    made.added(some(1, "a1"))
    create(made)
    made.added(some(1, "b2"))
    assert read(made) == ["b2"]
    request = ReplayRequest(topic_id=1000, store_id=1, id="r", consumer_group_id=NEW, pub_id=1, to_earliest=True)
    ReplayCalls(made.service.serving_group).replay(request, NO_CONTEXT)
    assert read(made) == ["a1", "b2"]


def test_its_own_retries_and_dead_letters_are_taken() -> None:
    made = strict()
    bit = 1 << NEW - 1
    wrong = made.add(some(8, "b1", mask=bit, item_mask=bit, origin=Origin.RETRIED))
    assert wrong.error.status is Status.INVALID_ARGUMENT
    create(made)
    made.added(some(8, "b1", mask=bit, item_mask=bit, origin=Origin.RETRIED))
    made.added(some(1_048_577, "b2", mask=bit, item_mask=bit, origin=Origin.DEAD))


# ---- commands ------------------------------------------------------------------------------------------


def test_the_same_again_changes_nothing_and_another_is_refused() -> None:
    made = strict()
    made.added(some(1, "a1"))
    create(made, start=EARLIEST)
    assert read(made) == ["a1"]
    assert create(made, start=EARLIEST).answer.unchanged
    assert read(made) == [], "it is where it was"
    assert create(made, start=LATEST).error.status is Status.ALREADY_EXISTS
    assert create(made, pubs=(1, 2), start=EARLIEST).error.status is Status.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("group", "pubs", "complaint"),
    [(0, (1,), "not a number from 1 to 64"), (65, (1,), "not a number"), (2, (1,), "files"), (NEW, (), "at least one")],
)
def test_what_is_wrong_is_named(group: int, pubs: tuple[int, ...], complaint: str) -> None:
    error = create(strict(), group, pubs=pubs).error
    assert (error.status, complaint in error.message) == (Status.INVALID_ARGUMENT, True)


def test_programs_before_it_are_waited_for() -> None:
    made = strict()
    made.group.lowest_version = GROUPS_VERSION - 1
    assert create(made).error.status is Status.UNAVAILABLE
    look(made)
    assert made.group.log == []


def test_it_is_in_checkpoints() -> None:
    made = strict()
    made.added(some(1, "a1"))
    create(made, start=EARLIEST)
    delete(made, NEW)
    create(made, 7, start=EARLIEST)
    files(made, 1)
    look(made)
    machine: StoreQueues = made.group.state_machine
    checkpoint = machine.checkpoint()
    copy = StoreQueues()
    copy.restore(checkpoint.state, checkpoint.segments)
    assert copy.groups == machine.groups
    assert copy.groups.leaving
    assert copy.groups.gone
    assert copy.state_hash() == machine.state_hash()


def test_what_was_under_way_for_its_former_life_is_void() -> None:
    made = strict()
    made.added(some(1, "a1", "a2"))
    create(made, start=EARLIEST)
    before = made.get(1, NEW).answer
    made.group.auto = False
    claims = [
        AckClaim(
            start=0,
            stop=2,
            count=2,
            digest_sum=sum(item_digest(9, number, text) for number, text in ((1, b"a1"), (2, b"a2"))) % 2**64,
        )
    ]
    made.get(1, NEW, limit=0, prev_cursor=2, claims=claims)
    delete(made)
    create(made, start=EARLIEST)
    made.clock.advance(1)
    made.group.choose(len(made.group.proposed))
    made.group.auto = True
    assert made.group.state_machine.acked_cursor(1, NEW) == 0
    again = made.get(1, NEW, next_cursor=2, generation=before.generation).answer
    assert (again.reset, ours(again)) == (True, ["a1", "a2"])


def test_who_waits_for_items_while_it_is_deleted_is_refused() -> None:
    made = strict()
    made.added(some(1, "a1"))
    create(made)
    waiting = made.get(1, NEW, wait_ms=5000)
    delete(made)
    made.clock.advance(0)
    assert waiting.error.status is Status.INVALID_ARGUMENT


def test_who_waits_for_items_while_it_becomes_another_one_is_given_what_that_has_to_read() -> None:
    """It waited as a reader of a group that began before these were stored: the new one began after."""
    made = strict()
    made.added(some(1, "a1"))
    create(made)
    waiting = made.get(1, NEW, wait_ms=5000)
    made.group.auto = False
    delete(made)
    made.add(some(1, "b2"))
    made.clock.advance(0)
    create(made, start=EARLIEST)
    made.group.choose(len(made.group.proposed))
    made.group.auto = True
    made.clock.advance(0)
    answer = waiting.answer
    assert (answer.reset, answer.prev_cursor, ours(answer)) == (True, 0, ["a1", "b2"])


# ---- what is kept for it ----------------------------------------------------------------------------------


def finish(made: StoreUnderTest, *groups: int) -> None:
    for group in groups:
        made.get(1, group, limit=0)
        read(made, group)
    made.clock.advance(1)


def test_what_it_has_still_to_read_is_kept_though_nothing_there_has_its_bit() -> None:
    made = strict()
    made.added(some(1, "a1"))
    made.added(some(1, "a2"))
    finish(made, 1, 2)
    create(made, start=EARLIEST)
    trim(made, 1, 2)
    assert made.group.state_machine.first_cursor(1) == 0
    made.get(1, NEW, limit=0)
    read(made)
    made.clock.advance(1)
    trim(made, 1, 2)
    assert made.group.state_machine.first_cursor(1) == 2
    assert made.group.state_machine.groups.since == {}


def test_masters_do_not_even_ask_to_trim_it() -> None:
    made = strict()
    made.added(some(1, "a1"))
    finish(made, 1, 2)
    create(made, start=EARLIEST)
    made.clock.advance(10 * DAY_S)
    entries = len(made.group.log)
    made.service._groups[0].trimming.look()
    assert len(made.group.log) == entries


def test_deleting_it_lets_go_what_was_kept_for_it() -> None:
    made = strict()
    create(made)
    made.added(some(1, "b1"))
    finish(made, 1, 2)
    trim(made, 1, 1)
    assert made.group.state_machine.first_cursor(1) == 0
    assert not delete(made).answer.unchanged
    assert delete(made).answer.unchanged
    trim(made, 1, 1)
    assert made.group.state_machine.first_cursor(1) == 1
    assert made.group.state_machine.groups.gone == {}
    assert made.get(1, NEW).error.status is Status.INVALID_ARGUMENT
    made.added(some(1, "b2"))
    assert list(made.group.state_machine.queues[1].masks)[-1] == 0b11


def test_what_is_enqueued_after_it_was_deleted_does_not_bring_it_back() -> None:
    """Rows from before carry its bit still; it is not said to leave."""
    made = strict(limits=StoreLimits(group_grace_s=100.0))
    create(made)
    made.added(some(1, "b1"))
    delete(made)
    made.added(some(1, "b2"))
    look(made)
    assert made.group.state_machine.groups.leaving == {}
    assert NEW not in listed(made)


def test_who_is_in_the_files_is_not_deleted() -> None:
    made = strict()
    error = delete(made, 2).error
    assert (error.status, "take it out there first" in error.message) == (Status.INVALID_ARGUMENT, True)


# ---- taken out of the files -----------------------------------------------------------------------------------


def leaving(**kwargs: Any) -> StoreUnderTest:
    """Group 2 has read half of queue 1, and nothing of queue 2; then it is taken out of the files."""
    made = strict(limits=StoreLimits(group_grace_s=100.0), **kwargs)
    made.added(some(1, "a1"))
    read(made, 2)
    made.added(some(1, "a2"))
    made.added(some(2, "a3"))
    made.clock.advance(1)
    files(made, 1)
    look(made)
    return made


def test_it_keeps_its_positions_for_its_grace_time_and_goes_on_when_it_is_back() -> None:
    made = leaving()
    state = listed(made)[2]
    until_ms = state.leaving_until_ms
    assert (until_ms, list(state.leaving_queue_ids), state.in_files) == (NOW_MS + 101_000, [1, 2], False)
    made.clock.advance(60)
    look(made)
    assert listed(made)[2].leaving_until_ms == until_ms
    read(made, 1)
    made.clock.advance(1)
    trim(made, 1, 2)
    assert made.group.state_machine.first_cursor(1) == 1, "a2 is kept for it"
    files(made, 1, 2)
    look(made)
    assert listed(made)[2].leaving_until_ms == 0
    assert read(made, 2) == ["a2"]
    assert read(made, 2, queue_id=2) == ["a3"]
    made.clock.advance(100)
    look(made)
    assert made.group.state_machine.acked_cursor(1, 2) == 2


def test_after_it_they_go_by_a_command() -> None:
    made = leaving()
    made.clock.advance(101)
    look(made)
    assert 2 not in listed(made)
    machine = made.group.state_machine
    assert (1, 2) not in machine.acked
    for queue_id in (1, 2):
        read(made, 1, queue_id)
    made.clock.advance(1)
    trim(made, 1, 2)
    trim(made, 2, 1)
    assert (machine.first_cursor(1), machine.first_cursor(2)) == (2, 1)
    entries = len(made.group.log)
    look(made)
    look(made)
    assert len(made.group.log) == entries, "that is all"


def test_what_it_is_given_up_for_is_counted_as_passed_over() -> None:
    made = leaving(ledger=True)
    made.group.state_machine.ledger.whole = True
    made.clock.advance(101)
    look(made)
    machine = made.group.state_machine
    rows = [row for minute in machine.ledger.minutes.values() for (_, group), row in minute.items() if group == 2]
    assert sum(row[SKIPPED] for row in rows) == 2, "a2 and a3"
    assert sum(row[ACKNOWLEDGED] for row in rows) == 1
    assert machine.replays.skipped == {2: 2}


def test_what_it_was_given_up_for_is_not_counted_again_when_it_is_back() -> None:
    made = leaving(ledger=True)
    made.group.state_machine.ledger.whole = True
    made.clock.advance(101)
    look(made)
    read(made, 1)
    made.clock.advance(1)
    trim(made, 1, 2)
    files(made, 1, 2)
    made.added(some(1, "b4"))
    assert read(made, 2) == ["b4"]
    made.clock.advance(1)
    machine = made.group.state_machine
    assert (machine.first_cursor(1), machine.acked_cursor(1, 2)) == (2, 3)
    rows = [row for minute in machine.ledger.minutes.values() for (_, group), row in minute.items() if group == 2]
    stored, acknowledged, skipped = (sum(row[place] for row in rows) for place in (TAKEN, ACKNOWLEDGED, SKIPPED))
    assert (stored, acknowledged, skipped) == (4, 2, 2)


def test_put_back_too_late_it_begins_with_what_comes() -> None:
    made = leaving()
    made.clock.advance(101)
    look(made)
    files(made, 1, 2)
    look(made)
    made.added(some(1, "b4"))
    assert read(made, 2) == ["b4"]


def test_a_new_master_keeps_to_the_time_that_was_said() -> None:
    made = leaving()
    made.clock.advance(50)
    made.group.lose(RuntimeError("deposed"))
    made.group.become_master()
    look(made)
    assert listed(made)[2].leaving_until_ms == NOW_MS + 101_000


def test_it_may_be_deleted_at_once() -> None:
    made = leaving()
    assert not delete(made, 2).answer.unchanged
    assert 2 not in listed(made)
    assert made.group.state_machine.groups.gone[2, 2] == 1


def test_a_queue_that_is_in_no_file_keeps_everybody() -> None:
    """Somebody forgot the pub: that is no reason to give anybody up."""
    made = strict(limits=StoreLimits(group_grace_s=0.0))
    made.added(some(1, "a1"))
    topic = made.node.topic
    made.service.reconfigure(replace(made.node, topic=replace(topic, pubs=topic.pubs[1:])))
    look(made)
    made.clock.advance(2)
    look(made)
    assert made.group.state_machine.groups.leaving == {}


def test_groups_made_at_run_time_do_not_leave() -> None:
    made = strict(limits=StoreLimits(group_grace_s=0.0))
    create(made)
    made.added(some(1, "b1"))
    look(made)
    made.clock.advance(2)
    look(made)
    assert listed(made)[NEW].leaving_until_ms == 0
    assert read(made) == ["b1"]


def test_looks_are_some_turns_apart() -> None:
    made = leaving()
    made.clock.advance(101)
    entries = len(made.group.log)
    for _ in range(10):
        made.service._groups[0].groups.turn()
    assert len(made.group.log) == entries + 1
