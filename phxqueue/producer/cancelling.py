"""Taking a delayed item back."""

from __future__ import annotations

from phxqueue.config import Topic, UnknownIdError
from phxqueue.net.status import Status
from phxqueue.producer.calls import Unanswered, call_until_answered
from phxqueue.producer.delayed import DelayedId
from phxqueue.producer.errors import Refused
from phxqueue.producer.receipts import Receipt
from phxqueue.producer.routes import store_route
from phxqueue.producer.surroundings import Surroundings
from phxqueue.proto.methods import CANCEL_DELAYED
from phxqueue.proto.store_pb2 import CancelDelayedRequest


async def cancel_delayed(surroundings: Surroundings, topic: Topic, delayed: Receipt | str) -> bool:
    """Have the store drop it; see Producer.cancel_delayed. A call without answer is made again: it changes nothing.

    Raises:
        Refused, OutcomeUnknown.
    """
    text = delayed.delayed_id if isinstance(delayed, Receipt) else delayed
    try:
        store_id, queue_id, deliver_at_ms, timer_number = DelayedId.parse(text)
        store = topic.store(store_id)
    except (ValueError, UnknownIdError) as error:
        raise Refused(str(error)) from None
    request = CancelDelayedRequest(
        topic_id=topic.topic_id,
        store_id=store_id,
        queue_id=queue_id,
        deliver_at_ms=deliver_at_ms,
        timer_number=timer_number,
    )
    route = store_route(topic, store_id, store.group_of_queue(queue_id))
    try:
        await call_until_answered(surroundings, route, CANCEL_DELAYED, request)
    except Unanswered as failed:
        if failed.error.status is Status.NOT_FOUND:
            return False
        raise failed.as_enqueue_error("cancel it again") from None
    return True
