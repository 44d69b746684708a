"""Taking a delayed item back."""

from __future__ import annotations

from twisted.internet.task import deferLater

from phxqueue.config import Topic, UnknownIdError
from phxqueue.net.status import Retry, RpcError, Status
from phxqueue.producer.delayed import DelayedId
from phxqueue.producer.errors import OutcomeUnknown, Refused
from phxqueue.producer.receipts import Receipt
from phxqueue.producer.routes import store_route
from phxqueue.producer.sender import Surroundings
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
    settings, clock = surroundings.settings, surroundings.clock
    end = clock.seconds() + settings.deadline_s
    pause, unknown = settings.backoff_first_s, False
    while True:
        left = end - clock.seconds()
        try:
            await surroundings.caller.call(route, CANCEL_DELAYED, request, max(left, 0.001))
            return True
        except RpcError as error:
            if error.status is Status.NOT_FOUND:
                return False
            unknown = unknown or error.maybe_executed
            if error.status.retry is Retry.NEVER or left <= pause:
                what = f"{route.what}: {error}"
                raise (
                    OutcomeUnknown(f"{what}; cancel it again", error.status) if unknown else Refused(what, error.status)
                ) from None
        await deferLater(clock, pause)
        pause = min(pause * 2, settings.backoff_max_s)
