"""Any request gets an answer or a stated refusal, and never disturbs the next one."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from phxqueue.config import dead_letter_queue
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch
from phxqueue.proto.store_pb2 import (
    AddRequest,
    CancelDelayedRequest,
    DecideHalfRequest,
    GetRequest,
    ListDelayedRequest,
    ListHalvesRequest,
    PollCheckBacksRequest,
    ShowHalfRequest,
)
from tests.store.fakes import NOW_MS, Call, Context, StoreUnderTest, batch

U32 = st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1), st.just(2**32 - 1))
U64 = st.one_of(st.integers(0, 30), st.integers(0, 2**64 - 1), st.just(2**64 - 1))
QUEUES = st.one_of(st.sampled_from([0, 1, 8, 20, dead_letter_queue(1)]), U32)
HEADERS = st.builds(
    BatchHeader,
    queue_id=QUEUES,
    pub_id=U32,
    consumer_group_ids=U64,
    count=U32,
    first_atime_ms=U64,
    last_atime_ms=U64,
    digest_sum=U64,
    producer_id=U64,
    sequence=U64,
    origin=st.one_of(st.just(0), U32),
    deliver_at_ms=st.one_of(st.just(0), st.integers(NOW_MS - 1000, NOW_MS + 50_000), U64),
    idempotency_key=st.one_of(st.just(b""), st.just(b""), st.binary(max_size=2), st.just(b"k" * 65)),
    body_digest=st.integers(0, 1),
    atomic_batches=st.one_of(st.just(0), st.integers(0, 3), U32),
    prepared_by=st.one_of(st.just(""), st.just(""), st.text(max_size=2), st.just("n" * 129)),
    check_after_ms=U32,
)
BATCHES = st.builds(ItemBatch, header=HEADERS, items=st.binary(max_size=40))
TOPICS = st.sampled_from([1000, 1000, 1000, 7])
STORES = st.sampled_from([1, 1, 1, 2])
ADDS = st.builds(AddRequest, topic_id=TOPICS, store_id=STORES, batches=st.lists(BATCHES, max_size=3))
OPTIONAL = st.one_of(st.none(), U64)
GETS = st.builds(
    GetRequest,
    topic_id=TOPICS,
    store_id=STORES,
    queue_id=QUEUES,
    limit=U32,
    consumer_group_id=st.one_of(st.integers(0, 3), U32),
    prev_cursor=OPTIONAL,
    next_cursor=OPTIONAL,
    random=st.booleans(),
    wait_ms=st.integers(0, 2**32 - 1),
    limit_bytes=U32,
    fencing_token=U64,
    reader_id=U64,
)
CANCELS = st.builds(
    CancelDelayedRequest,
    topic_id=TOPICS,
    store_id=STORES,
    queue_id=QUEUES,
    deliver_at_ms=st.one_of(st.integers(NOW_MS - 1000, NOW_MS + 50_000), U64),
    timer_number=U64,
)
LISTS = st.builds(
    ListDelayedRequest,
    topic_id=TOPICS,
    store_id=STORES,
    queue_id=QUEUES,
    only_queue=st.booleans(),
    after_ms=U64,
    after_number=U64,
    limit=U32,
)
DECISIONS = st.builds(
    DecideHalfRequest, topic_id=TOPICS, store_id=STORES, queue_id=QUEUES, half_number=U64, decision=st.integers(0, 9)
)
HALVES = st.builds(
    ListHalvesRequest,
    topic_id=TOPICS,
    store_id=STORES,
    queue_id=QUEUES,
    after_number=U64,
    limit=U32,
    expired=st.booleans(),
)
SHOWS = st.builds(ShowHalfRequest, topic_id=TOPICS, store_id=STORES, queue_id=QUEUES, half_number=U64)
POLLS = st.builds(
    PollCheckBacksRequest, topic_id=TOPICS, store_id=STORES, name=st.text(max_size=2), wait_ms=U32, limit=U32
)


@given(st.lists(st.one_of(ADDS, ADDS, GETS, CANCELS, LISTS, DECISIONS, HALVES, SHOWS, POLLS), max_size=12))
def test_every_request_ends_in_an_answer_or_a_stated_refusal(requests: list[Any]) -> None:
    store, context = StoreUnderTest(paxos_groups=2), Context()
    store.added(batch(0, count=5))
    handlers: dict[type[Any], Any] = {
        AddRequest: store.service.add,
        GetRequest: store.service.get,
        CancelDelayedRequest: store.service.cancel_delayed,
        ListDelayedRequest: store.service.list_delayed,
        DecideHalfRequest: store.service._half_calls.decide,
        ListHalvesRequest: store.service._half_calls.list,
        ShowHalfRequest: store.service._half_calls.show,
        PollCheckBacksRequest: store.service._half_calls.poll,
    }
    for request in requests:
        handler = handlers[type(request)]
        call = Call(lambda handler=handler, request=request: handler(request, context))  # type: ignore[misc]
        store.clock.advance(0)  # a fencing token is replicated first
        store.clock.advance(40)
        store.clock.advance(0)
        assert not call.pending
        if isinstance(call.outcome, RpcError):
            stated = (Status.INVALID_ARGUMENT, Status.OUT_OF_RANGE, Status.FENCED, Status.NOT_FOUND)
            assert call.outcome.status in stated
            assert call.outcome.message
        else:
            call.answer.SerializeToString()
    assert not isinstance(store.get(0, random=True).answer, Deferred)
    assert store.added(batch(0))[0] >= 5
    for group in store.groups.values():
        copy = type(group.state_machine)()
        checkpoint = group.state_machine.checkpoint()
        copy.restore(checkpoint.state, checkpoint.segments)
        assert copy.state_hash() == group.state_machine.state_hash()


@given(st.binary(max_size=200))
def test_any_bytes_that_parse_as_an_add_are_handled(raw: bytes) -> None:
    try:
        request = AddRequest.FromString(b"\x08\xe8\x07\x10\x01" + raw)  # topic 1000, store 1, and then anything
    except DecodeError:  # the RPC layer's business
        return
    store = StoreUnderTest()
    call = Call(lambda: store.service.add(request, Context()))
    store.clock.advance(0)
    assert not call.pending
    if isinstance(call.outcome, BaseException):
        assert isinstance(call.outcome, RpcError)
