"""enqueue_many(..., atomic=True): items that become visible together or not at all.

All of them travel in one request and lie in one entry of one Paxos group. So they have to lead to one group, which is
found out before anything is sent: an item with a uin goes where its uin leads; items without one follow it, to queues
of the same Paxos group. They line up as one entry of the lane.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from phxqueue.producer.entries import Cancelled, CancelledUnderWay, PieceEntry, Target, TogetherEntry
from phxqueue.producer.errors import EnqueueError, InvalidItem, NotOnePlace, OutcomeUnknown, TooMuchAtOnce
from phxqueue.producer.many import NewItem
from phxqueue.producer.plans import Plan, Planner
from phxqueue.producer.receipts import Receipts, Segment
from phxqueue.proto.digest import MASK64

#: Items named in an error.
_NAMED = 5


class AtomicCall:
    """One atomic enqueue_many: done when all its pieces are, which have one fate."""

    def __init__(self) -> None:
        self.deferred: Deferred[Receipts] = Deferred(self._cancel)
        self.pieces: list[PieceEntry] = []
        self.dropped: list[Segment] = []  # items of queue_infos with drop_all
        self._segments: list[Segment] = []
        self._entry: AtomicEntry | None = None

    def begin(self, entry: AtomicEntry) -> None:
        """Its entry is made."""
        self._entry = entry

    def settle(self, segment: Segment) -> None:
        """The outcome of one piece."""
        self._segments.append(segment)
        if len(self._segments) < len(self.pieces):
            return
        errors = [one.error for one in self._segments if one.error is not None]
        if not errors:
            segments = [*self._segments, *self.dropped]
            self.deferred.callback(Receipts(sum(len(one.positions) for one in segments), segments))
        elif len(errors) == len(self.pieces):
            self.deferred.errback(errors[0])
        else:
            text = f"the store told different outcomes for items that belong together, one of them: {errors[0]}"
            self.deferred.errback(OutcomeUnknown(text, errors[0].status))

    def _cancel(self, deferred: Deferred[Receipts]) -> None:
        under_way = self._entry is not None and self._entry.left
        if self._entry is not None:
            self._entry.void = not under_way
            self._entry.answered = True
        for piece in self.pieces:
            piece.answered = True
        text = "enqueue_many was cancelled; its items are "
        deferred.errback(
            CancelledUnderWay(f"{text}all written, or none is") if under_way else Cancelled(f"{text}not written")
        )


class AtomicEntry(TogetherEntry):
    """All items of the call, as a lane sees them."""

    def __init__(self, call: AtomicCall, pieces: list[PieceEntry]) -> None:
        super().__init__(pieces)
        self.call = call

    def fail(self, error: EnqueueError) -> None:
        if not self.answered:
            self.answered = True
            for piece in self.call.pieces:
                piece.fail(error)


@dataclass(slots=True)
class _Planned:
    """An item whose call is right; `target` None: it has no uin, and follows the others."""

    item: NewItem
    plan: Plan
    target: Target | None


class AtomicPlan:
    """Finds one place for the items of a call, and makes its entry."""

    def __init__(self, planner: Planner, max_items: int, max_size: int) -> None:
        self._planner = planner
        self._max_items = max_items
        self._max_size = max_size

    def entry(self, items: Iterable[NewItem], store_id: int | None, call: AtomicCall) -> AtomicEntry | None:
        """The entry of a call; None: all of its items are thrown away, or there are none.

        Raises:
            EnqueueError: naming the item that is wrong, the places the items lead to, or the limit.
        """
        planned = self._plan(items, call)
        lane, uin = self._place(planned, store_id)
        pieces: dict[tuple[int, ...], _Growing] = {}
        size = 0
        for position, one in planned.items():
            target = one.target or self._follow(position, one, lane)
            payload, digest = self._named(position, self._encode, one)
            size += len(payload)
            growing = pieces.setdefault(target.batch, _Growing(target))
            growing.add(position, payload, digest)
        if size > self._max_size:
            raise TooMuchAtOnce(
                f"the items of an atomic call have {size} bytes together, more than items_byte_size_limit = "
                f"{self._max_size} of the topic allows: make it smaller calls, or raise the limit in topicconfig.conf"
            )
        if not pieces:
            return None
        return self._make_entry(list(pieces.values()), uin, call)

    def _plan(self, items: Iterable[NewItem], call: AtomicCall) -> dict[int, _Planned]:
        planned: dict[int, _Planned] = {}
        for position, item in enumerate(items):
            if position >= self._max_items:
                raise TooMuchAtOnce(
                    f"an atomic call has at most batch_limit = {self._max_items} items: make it smaller calls, or "
                    "raise the limit in topicconfig.conf"
                )
            one = self._named(position, self._plan_item, item)
            if one.plan.info.drop_all:
                receipt = self._planner.drop(one.plan.info, one.target or self._planner.target(one.plan, 0)[0])
                call.dropped.append(Segment((position,), receipt.store_id, receipt.queue_id, receipt.cursor, None))
            else:
                planned[position] = one
        return planned

    def _plan_item(self, item: NewItem) -> _Planned:
        if not isinstance(item, NewItem):
            raise InvalidItem(f"it is not a NewItem: {item!r:.200}")
        if item.delay or item.deliver_at is not None or item.idempotency_key is not None:
            raise InvalidItem("items of an atomic call have no delay, no deliver_at and no idempotency_key")
        plan = self._planner.plan(item.pub_id, item.handle_id, item.consumer_group_ids, item.priority)
        target, key = self._planner.target(plan, item.uin)
        return _Planned(item, plan, target if key else None)

    def _place(self, planned: Mapping[int, _Planned], store_id: int | None) -> tuple[tuple[int, int], int]:
        """The lane of all items, and the uin that their order hangs on. Raises NotOnePlace."""
        places: dict[tuple[tuple[int, int], int], list[int]] = {}
        for position, one in planned.items():
            if one.target is not None:
                places.setdefault((one.target.lane, one.item.uin), []).append(position)
        stores = {lane[0] for lane, _ in places}
        if len(places) > 1 or (store_id is not None and stores and stores != {store_id}):
            raise NotOnePlace(self._where(places, store_id))
        if places:
            return next(iter(places))
        first = next(iter(planned.values()), None)
        if first is None:
            return (0, 0), 0
        return self._named(0, self._planner.target_in_store, first.plan, store_id).lane, 0

    def _where(self, places: Mapping[tuple[tuple[int, int], int], list[int]], store_id: int | None) -> str:
        led = "; ".join(
            f"{_listed(positions)} (uin {uin}) to Paxos group {group} of store {store}"
            for ((store, group), uin), positions in places.items()
        )
        if len({lane for lane, _ in places}) == 1 and len(places) > 1:
            uins = ", ".join(f"{_listed(positions)} with uin {uin}" for (_, uin), positions in places.items())
            return (
                f"an atomic call has one uin at most, or it would have to wait for what is under way of all: "
                f"{uins}. Nothing was sent. Give all of them the same uin, or all but one's none"
            )
        wanted = "" if store_id is None else f", and store={store_id} was asked for"
        return (
            f"the items of an atomic call go to one Paxos group of one store, under one uin at most; these lead to "
            f"several places: {led}{wanted}. Nothing was sent. Give all of them the same uin, or none: items without a "
            "uin follow the one that has one, and `store=` chooses the store of a call in which none has"
        )

    def _follow(self, position: int, one: _Planned, lane: tuple[int, int]) -> Target:
        found = self._planner.target_in_lane(one.plan, lane)
        if found is None:
            raise NotOnePlace(
                f"items[{position}] cannot follow the others to Paxos group {lane[1]} of store {lane[0]}: queue_info "
                f"{one.plan.info.queue_info_id} of pub {one.item.pub_id} has no queue there. Nothing was sent"
            )
        return found

    def _encode(self, one: _Planned) -> tuple[bytes, int]:
        item = one.item
        _, expires_ms = self._planner.times(0.0, None, item.ttl) if item.ttl else (0, 0)
        return self._planner.encode(one.plan, item.buffer, item.uin, item.client_id, item.user_cookies, expires_ms)

    @staticmethod
    def _named(position: int, step: Any, *arguments: Any) -> Any:
        """Do a step for an item; an error names it."""
        try:
            return step(*arguments)
        except EnqueueError as error:
            raise type(error)(f"items[{position}]: {error.message}; nothing was sent", error.status) from None

    def _make_entry(self, pieces: list[_Growing], uin: int, call: AtomicCall) -> AtomicEntry:
        planner = self._planner
        for growing in pieces:
            digest, payload = growing.digest & MASK64, b"".join(growing.payloads)
            count = len(growing.positions)
            piece = PieceEntry(growing.target, uin, count, payload, digest, planner.now, planner.atime_ms)
            piece.call, piece.positions = call, growing.positions
            call.pieces.append(piece)
        call.pieces[0].together = len(call.pieces)
        entry = AtomicEntry(call, call.pieces)
        call.begin(entry)
        return entry


class _Growing:
    """The items of one batch."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.positions: list[int] = []
        self.payloads: list[bytes] = []
        self.digest = 0

    def add(self, position: int, payload: bytes, digest: int) -> None:
        """Another item."""
        self.positions.append(position)
        self.payloads.append(payload)
        self.digest += digest


def _listed(positions: Collection[int]) -> str:
    named = ", ".join(str(position) for position in list(positions)[:_NAMED])
    more = f" and {len(positions) - _NAMED} more" if len(positions) > _NAMED else ""
    return f"items {named}{more}" if len(positions) > 1 else f"item {named}"
