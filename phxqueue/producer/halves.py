"""Half messages: prepared, then committed or rolled back. What an application holds of one, and how it is decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from twisted.internet.defer import Deferred

from phxqueue.config import Topic, UnknownIdError
from phxqueue.net.status import Status
from phxqueue.producer.calls import Unanswered, call_until_answered
from phxqueue.producer.entries import Cancelled, CancelledUnderWay, Entry
from phxqueue.producer.errors import EnqueueError, HalfDecided, HalfUnknown, OutcomeUnknown, Refused
from phxqueue.producer.items import read_cookies
from phxqueue.producer.places import read_place
from phxqueue.producer.receipts import Receipt
from phxqueue.producer.routes import store_route
from phxqueue.producer.surroundings import Surroundings
from phxqueue.proto.item_pb2 import QItems
from phxqueue.proto.methods import DECIDE_HALF
from phxqueue.proto.store_pb2 import AddResult, DecideHalfRequest, HalfState


class HalfId(NamedTuple):
    """Where a half message lies. As text: "store-queue-half_number"."""

    store_id: int
    queue_id: int
    half_number: int

    def __str__(self) -> str:
        return "-".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> HalfId:
        """Read what str() wrote.

        Raises:
            ValueError: it is no such text.
        """
        return cls(*read_place(text, (32, 32, 64), "a half message: it looks like 1-17-42"))


@dataclass(frozen=True, slots=True)
class HalfItem:
    """What was prepared: the arguments of `Producer.prepare`."""

    pub_id: int
    handle_id: int
    buffer: bytes
    uin: int = 0
    client_id: str = ""
    user_cookies: Mapping[str, bytes] | None = None

    @classmethod
    def read(cls, items: bytes) -> HalfItem | None:
        """The one of a serialized QItems; None: there is none."""
        for item in QItems.FromString(items).items:
            meta = item.meta
            cookies = read_cookies(meta.user_cookies)
            return cls(meta.pub_id, meta.handle_id, item.buffer, meta.uin, meta.client_id, cookies or None)
        return None


class Half:
    """A message that is durable and that nobody sees yet.

    Attributes:
        half_id: its name, a text: `Producer.half(half_id)` is the same half message, in any process.
        item: what was prepared; None when only the name is known.
    """

    def __init__(
        self,
        decide: Callable[[HalfId, HalfState.ValueType], Deferred[Receipt | None]],
        name: HalfId,
        item: HalfItem | None,
    ) -> None:
        self._decide = decide
        self._name = name
        self.item = item

    @property
    def half_id(self) -> str:
        """Its name."""
        return str(self._name)

    def commit(self) -> Deferred[Receipt]:
        """Put it into its queue, once, however often it is committed and by whomever.

        Returns:
            A Deferred (await it) of the receipt. It fails with HalfDecided (it was rolled back, by somebody or because
            its time was over), HalfUnknown, Refused (nothing was done), or OutcomeUnknown (commit it again).
        """
        return self._decide(self._name, HalfState.COMMITTED)  # type: ignore[return-value]

    def roll_back(self) -> Deferred[None]:
        """Drop it.

        Returns:
            A Deferred (await it): nobody will ever see it. It fails with HalfDecided (it was committed), and as
            `commit` does.
        """
        return self._decide(self._name, HalfState.ROLLED_BACK)  # type: ignore[return-value]

    def __repr__(self) -> str:
        return f"<half message {self.half_id}>"


class HalfEntry(Entry):
    """The item of one prepare()."""

    deferred: Deferred[Half]
    make: Callable[[HalfId], Half]

    def stored(self, result: AddResult, offset: int) -> None:
        if self.answered:
            return
        target = self.target
        if result.prepared:
            self.answered = True
            self.deferred.callback(self.make(HalfId(target.store_id, target.queue_id, result.half_number)))
        else:  # no node of the store knows half messages: they have taken it for an ordinary one
            self.fail(
                OutcomeUnknown(
                    f"store {target.store_id} knows no half messages and has made the item visible at once, as item "
                    f"{result.first_cursor} of queue {target.queue_id}: upgrade its nodes before using them"
                )
            )

    def fail(self, error: EnqueueError) -> None:
        if not self.answered:
            self.answered = True
            self.deferred.errback(error)

    def cancel(self, _deferred: Deferred[Half]) -> None:
        """The caller has lost interest. What may have left is rolled back by the store when its time is over."""
        if self.left:
            self.fail(CancelledUnderWay("prepare was cancelled: if it is prepared at all, nobody commits it"))
        else:
            self.void = True
            self.fail(Cancelled("prepare was cancelled before it was sent: nothing is prepared"))


async def decide_half(
    surroundings: Surroundings, topic: Topic, name: HalfId, decision: HalfState.ValueType
) -> Receipt | None:
    """Have the store decide; see Half. A call without answer is made again: the first decision counts.

    Raises:
        HalfDecided, HalfUnknown, Refused, OutcomeUnknown.
    """
    try:
        store = topic.store(name.store_id)
    except UnknownIdError as error:
        raise Refused(str(error)) from None
    request = DecideHalfRequest(
        topic_id=topic.topic_id,
        store_id=name.store_id,
        queue_id=name.queue_id,
        half_number=name.half_number,
        decision=decision,
    )
    route = store_route(topic, name.store_id, store.group_of_queue(name.queue_id))
    try:
        answer = await call_until_answered(surroundings, route, DECIDE_HALF, request)
    except Unanswered as failed:
        if failed.error.status is Status.NOT_FOUND:
            raise HalfUnknown(str(failed)) from None
        raise failed.as_enqueue_error("decide again") from None
    if answer.state == HalfState.COMMITTED and decision == HalfState.COMMITTED:
        return Receipt(name.store_id, answer.queue_id, answer.first_cursor)
    if answer.state != HalfState.COMMITTED and decision != HalfState.COMMITTED:
        return None
    raise HalfDecided(_how(answer.state, name), committed=answer.state == HalfState.COMMITTED)


def _how(state: int, name: HalfId) -> str:
    how = {
        HalfState.COMMITTED: "was committed before: it is in its queue",
        HalfState.ROLLED_BACK: "was rolled back before: nobody will see it",
        HalfState.EXPIRED: "was rolled back by the store, because nobody decided in time (half_deadline_s of the pub)",
    }
    return f"half message {name} {how.get(HalfState.ValueType(state), f'is in state {state}')}"
