"""From the arguments of an enqueue to a target and bytes: validation, identity, time, routing. Pure, given a `random`.

Everything that a kind of item (pub, handle_id, groups) shares is worked out once and kept as a Plan.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Collection, Mapping
from dataclasses import replace
from math import ceil

from twisted.logger import Logger
from xxhash import xxh3_64_intdigest

from phxqueue.config import QueueInfo, Topic
from phxqueue.producer.entries import Target
from phxqueue.producer.errors import BadKey, InvalidItem, Refused, UinOutOfRange, UnknownPub
from phxqueue.producer.items import ItemEncoder
from phxqueue.producer.receipts import NOT_STORED, Receipt
from phxqueue.producer.routes import PubRoutes, RouteTable
from phxqueue.proto.origin import Origin

MAX_UIN = (1 << 64) - 1
#: Plans, and places of uins, that are remembered; when there are more, all are forgotten (they are cheap to make).
MAX_PLANS = 4096
MAX_PLACES = 65536
#: Longest time until producers are asked about a half message: what its field holds.
MAX_CHECK_AFTER_S = 4_000_000
#: Longest idempotency key: what stores take.
MAX_KEY_BYTES = 64
#: Times are below this, in seconds: a year of five digits is a mistake (of milliseconds, mostly).
_LATEST_S = 253_402_300_800.0


class Plan:
    """What all items of one (pub, handle_id, groups) have in common."""

    __slots__ = ("encode", "info", "keyed", "mask", "places", "routes", "sticky", "turn")

    def __init__(self, routes: PubRoutes, info: QueueInfo, mask: int, encoder: ItemEncoder) -> None:
        self.routes = routes
        self.info = info
        self.mask = mask
        self.encode = encoder.encode
        self.keyed = not info.handle_by_random_uin
        self.places: dict[int, Target] = {}  # by uin
        self.sticky: Target | None = None  # of items without key, in this turn
        self.turn = -1


class Planner:
    """Validates and places items of one producer.

    All items of a reactor turn share its time, and those without key its random choice of a place, so that they
    travel together.
    """

    log = Logger()

    def __init__(self, topic: Topic, producer_id: int, item_size_limit: int, random: random_module.Random) -> None:
        self.table = RouteTable(topic)
        self.now = 0.0
        self.atime_ms = 0
        self._producer_id = producer_id
        self._limit = item_size_limit
        self._random = random
        self._plans: dict[tuple[int, int, tuple[int, ...] | None, int], Plan] = {}
        self._places = 0  # remembered in all plans
        self._number = 0  # of the next item
        self._alone = 0  # items so far that have a batch for themselves
        self._turn = 0
        self._turn_key = 0
        self._avoid: frozenset[int] = frozenset()
        self._logged_drops: set[int] = set()

    def begin_turn(self, now: float, wall_s: float, avoid: frozenset[int]) -> None:
        """A new turn: its time (`now` of the monotonic kind), and the stores that items without key avoid."""
        self.now = now
        self.atime_ms = int(wall_s * 1000)
        self._turn += 1
        self._turn_key = self._random.getrandbits(64)
        self._avoid = avoid

    def reconfigure(self, topic: Topic) -> None:
        """Go on with another configuration."""
        self.table = RouteTable(topic)
        self._plans.clear()

    def plan(self, pub_id: int, handle_id: int, consumer_group_ids: Collection[int] | None, priority: int = 0) -> Plan:
        """The plan for items of this kind.

        Raises:
            UnknownPub, UnknownHandle, UnknownGroup, InvalidItem: naming what there is.
        """
        key = (pub_id, handle_id, None if consumer_group_ids is None else tuple(consumer_group_ids), priority)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._make_plan(pub_id, handle_id, consumer_group_ids, priority)
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def _make_plan(
        self, pub_id: int, handle_id: int, consumer_group_ids: Collection[int] | None, priority: int
    ) -> Plan:
        routes = self.table.pub(pub_id)
        self.table.check_handle(handle_id)
        mask = routes.mask(consumer_group_ids)
        if priority.__class__ is not int or not 0 <= priority <= len(routes.priorities):
            raise InvalidItem(
                f"priority must be 0 (none) to {len(routes.priorities)} (priority_queue_info_ids of pub {pub_id}), "
                f"not {priority!r}"
            )
        info = routes.priorities[priority - 1] if priority else routes.first_info
        if info is None:
            raise Refused(f"pub {pub_id} absorbs no attempts: give its queue_infos a count in topicconfig.conf")
        item_mask = 0 if mask == routes.full_mask else mask
        return Plan(routes, info, mask, ItemEncoder(self._producer_id, pub_id, handle_id, item_mask, self._limit))

    def target(self, plan: Plan, uin: int, idempotency_key: bytes | None = None) -> tuple[Target, int]:
        """Where an item goes, and the key that its order hangs on (0: none).

        With an idempotency key and no uin it goes where the key leads, reachable or not: only there it is known.

        Raises:
            UinOutOfRange, UnknownPub, BadKey.
        """
        # The class is looked at because 1.0 finds the place of 1.
        if plan.keyed and uin.__class__ is int and (target := plan.places.get(uin)) is not None:
            return target, uin
        if not _is_uin(uin):
            raise UinOutOfRange(f"uin must be an int from 0 to 2**64 - 1, not {uin!r}")
        if uin and plan.keyed:
            return self._find_place(plan, uin), uin
        if idempotency_key is not None:
            _check_key(idempotency_key)
            return plan.routes.target(plan.info, xxh3_64_intdigest(idempotency_key), plan.mask), 0
        if plan.turn != self._turn or plan.sticky is None:
            plan.sticky = plan.routes.target(plan.info, self._turn_key, plan.mask, self._avoid)
            plan.turn = self._turn
        return plan.sticky, 0

    def target_in_store(self, plan: Plan, store_id: int | None) -> Target:
        """Where an item without key goes, in a store that the caller has chosen; None: in any.

        Raises:
            UnknownPub: no store serves the pub, or the store does not.
        """
        if store_id is None:
            return self.target(plan, 0)[0]
        found = plan.routes.target_in_store(plan.info, self._turn_key, plan.mask, store_id)
        if found is None:
            raise UnknownPub(f"store {store_id} does not serve pub {plan.routes.pub_id}, or has scale 0")
        return found

    def target_in_lane(self, plan: Plan, lane: tuple[int, int]) -> Target | None:
        """Where an item without key goes in a given Paxos group of a store; None: there is no queue for it."""
        return plan.routes.target_in_group(plan.info, self._turn_key, plan.mask, *lane)

    def _find_place(self, plan: Plan, uin: int) -> Target:
        if self._places >= MAX_PLACES:
            self._places = 0
            for other in self._plans.values():
                other.places.clear()
        self._places += 1
        target = plan.places[uin] = plan.routes.target(plan.info, uin, plan.mask)
        return target

    def target_of_attempt(
        self, pub_id: int, info: QueueInfo | None, uin: int, mask: int, origin: Origin
    ) -> tuple[Target, int]:
        """The same for a later attempt; `info` None: the dead letters.

        Raises:
            UnknownPub.
        """
        routes = self.table.pub(pub_id)
        if uin and not (info is not None and info.handle_by_random_uin):
            return routes.target(info, uin, mask, origin=origin), uin
        return routes.target(info, self._turn_key, mask, self._avoid, origin), 0

    def times(self, delay: float, deliver_at: float | None, ttl: float) -> tuple[int, int]:
        """When an item of this turn is due, and when it expires; Unix milliseconds, 0: at once, never.

        Args:
            delay, ttl: seconds; 0: none. `deliver_at`: Unix seconds; None: at once. `ttl` counts from when it is due.

        Raises:
            InvalidItem: naming what is wrong.
        """
        if delay and deliver_at is not None:
            raise InvalidItem("give delay or deliver_at, not both")
        for name, value in (("delay", delay), ("deliver_at", deliver_at or 0.0), ("ttl", ttl)):
            if not _is_time(value):
                raise InvalidItem(f"{name} must be a number of seconds from 0 to {_LATEST_S:.0f}, not {value!r}")
        due_ms = 0
        if delay:
            due_ms = self.atime_ms + ceil(delay * 1000)
        elif deliver_at is not None:
            due_ms = max(ceil(deliver_at * 1000), 1)
        return due_ms, max(due_ms, self.atime_ms) + ceil(ttl * 1000) if ttl else 0

    def delayed(self, target: Target, due_ms: int) -> Target:
        """The target of one delayed item: its batch has no other."""
        self._alone += 1
        return replace(target, deliver_at_ms=due_ms, batch=(*target.batch, self._alone))

    def prepared(self, target: Target, prepared_by: str, check_after: float) -> Target:
        """The target of one half message: the same. Raises InvalidItem."""
        if not _is_time(check_after) or check_after > MAX_CHECK_AFTER_S:
            raise InvalidItem(f"check_back_after must be a number of seconds from 0 to {MAX_CHECK_AFTER_S}")
        self._alone += 1
        return replace(
            target,
            prepared_by=prepared_by,
            check_after_ms=ceil(check_after * 1000),
            batch=(*target.batch, self._alone),
        )

    def with_key(self, target: Target, idempotency_key: bytes, body_digest: int) -> Target:
        """The target of one item with an idempotency key: the same. Raises BadKey."""
        _check_key(idempotency_key)
        self._alone += 1
        return replace(
            target, idempotency_key=idempotency_key, body_digest=body_digest, batch=(*target.batch, self._alone)
        )

    def encode(
        self,
        plan: Plan,
        buffer: bytes,
        uin: int,
        client_id: str,
        user_cookies: Mapping[str, bytes] | None,
        expires_at_ms: int = 0,
    ) -> tuple[bytes, int]:
        """The serialized item and its digest; it gets the producer's next number.

        Raises:
            BufferNotBytes, BadText, ItemTooLarge.
        """
        encoded = plan.encode(buffer, uin, self._number, self.atime_ms, client_id, user_cookies, expires_at_ms)
        self._number += 1
        return encoded

    def drop(self, info: QueueInfo, target: Target) -> Receipt:
        """The receipt of an item that is thrown away because its queue_info says so (logged once)."""
        if info.queue_info_id not in self._logged_drops:
            self._logged_drops.add(info.queue_info_id)
            self.log.warn(
                "queue_info {queue_info_id} has drop_all: items for pub {pub_id} are thrown away, as configured",
                queue_info_id=info.queue_info_id,
                pub_id=target.pub_id,
            )
        return Receipt(target.store_id, target.queue_id, NOT_STORED)


def _check_key(idempotency_key: bytes) -> None:
    if idempotency_key.__class__ is not bytes or not 0 < len(idempotency_key) <= MAX_KEY_BYTES:
        raise BadKey(f"idempotency_key must be 1 to {MAX_KEY_BYTES} bytes, not {idempotency_key!r:.100}")


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < _LATEST_S


def _is_uin(uin: object) -> bool:
    return isinstance(uin, int) and 0 <= uin <= MAX_UIN
