"""enqueue_many: from a list of items to a few pieces, each of which lines up as one entry.

Items without key that go to the same queue form pieces of up to `chunk_items`; items with a key form one piece per
key, so that a piece waits for no other key than its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from phxqueue.producer.entries import ManyCall, PieceEntry, Target
from phxqueue.producer.errors import EnqueueError, InvalidItem
from phxqueue.producer.items import body_digest
from phxqueue.producer.plans import Plan, Planner
from phxqueue.proto.digest import MASK64


class NewItem(NamedTuple):
    """One item of an enqueue_many; the fields are the arguments of Producer.enqueue."""

    pub_id: int
    handle_id: int
    buffer: bytes
    uin: int = 0
    client_id: str = ""
    user_cookies: Mapping[str, bytes] | None = None
    consumer_group_ids: Collection[int] | None = None
    delay: float = 0.0
    deliver_at: float | None = None
    ttl: float = 0.0
    idempotency_key: bytes | None = None
    priority: int = 0


class _Piece:
    """A piece that grows."""

    __slots__ = ("digest", "key", "payloads", "positions", "size", "target")

    def __init__(self, target: Target, key: int) -> None:
        self.target = target
        self.key = key
        self.payloads: list[bytes] = []
        self.positions: list[int] = []
        self.digest = 0
        self.size = 0

    def add(self, payload: bytes, digest: int, position: int) -> None:
        """Another item."""
        self.payloads.append(payload)
        self.positions.append(position)
        self.digest += digest
        self.size += len(payload)


class Cutter:
    """Cuts the items of one call into pieces."""

    def __init__(self, planner: Planner, call: ManyCall, chunk_items: int, chunk_size: int) -> None:
        self._planner = planner
        self._call = call
        self._chunk_items = chunk_items
        self._chunk_size = chunk_size
        self._done: list[_Piece] = []
        # By pub and priority, by key (no key: by target).
        self._growing: dict[tuple[int, int], dict[int | Target, _Piece]] = {}
        self._count = 0
        self.taken = 0
        self.refused = 0
        self.dropped = 0

    def cut(self, items: Iterable[NewItem]) -> None:
        """Take all items. What is wrong with one of them is its own outcome."""
        kind: object = None
        plan: Plan | None = None
        growing: dict[int | Target, _Piece] = {}
        planner = self._planner
        position = -1
        for position, item in enumerate(items):
            try:
                (
                    pub_id,
                    handle_id,
                    buffer,
                    uin,
                    client_id,
                    cookies,
                    groups,
                    delay,
                    deliver_at,
                    ttl,
                    own_key,
                    priority,
                ) = item
                if plan is None or kind != (pub_id, handle_id, groups, priority):
                    kind = pub_id, handle_id, groups, priority
                    plan = planner.plan(pub_id, handle_id, groups, priority)
                    growing = self._growing.setdefault((pub_id, priority), {})
                target, key = planner.target(plan, uin, own_key)
                if plan.info.drop_all:
                    self._drop(plan, target, position)
                    continue
                due_ms = expires_ms = 0
                if delay or ttl or deliver_at is not None:
                    due_ms, expires_ms = planner.times(delay, deliver_at, ttl)
                payload, digest = planner.encode(plan, buffer, uin, client_id, cookies, expires_ms)
                if own_key is not None:
                    body = body_digest(handle_id, uin, target.mask, buffer, cookies)
                    target = planner.with_key(target, own_key, body)
            except EnqueueError as error:
                self._refuse(position, error)
                continue
            except (TypeError, ValueError):
                self._refuse(position, InvalidItem(f"items[{position}] is not a NewItem: {item!r:.200}"))
                continue
            if due_ms or own_key is not None:
                if not due_ms:
                    growing.pop(key, None)  # later items of its uin stay behind it
                alone = _Piece(planner.delayed(target, due_ms) if due_ms else target, key)
                self._done.append(alone)
                alone.add(payload, digest, position)
                continue
            piece = growing.get(key or target)
            if piece is None or piece.target is not target or self._is_full(piece, payload):
                piece = growing[key or target] = _Piece(target, key)
                self._done.append(piece)
            piece.add(payload, digest, position)
        self._count = position + 1
        self.taken = self._count - self.refused - self.dropped

    def _is_full(self, piece: _Piece, payload: bytes) -> bool:
        return len(piece.payloads) >= self._chunk_items or piece.size + len(payload) > self._chunk_size

    def _refuse(self, position: int, error: EnqueueError) -> None:
        self.refused += 1
        self._call.refuse(position, error)

    def _drop(self, plan: Plan, target: Target, position: int) -> None:
        self.dropped += 1
        self._call.dropped(position, self._planner.drop(plan.info, target))

    def line_up(self, admit: Callable[[PieceEntry], None]) -> None:
        """Send the pieces on their way, in order."""
        planner = self._planner
        entries = []
        for piece in self._done:
            payload = b"".join(piece.payloads)
            entry = PieceEntry(
                piece.target,
                piece.key,
                len(piece.payloads),
                payload,
                piece.digest & MASK64,
                planner.now,
                planner.atime_ms,
            )
            self._call.piece(entry, piece.positions)
            entries.append(entry)
        for entry in entries:
            admit(entry)
        self._call.made(self._count)
