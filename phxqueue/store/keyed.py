"""The master's side of idempotency keys: checks them, and tells the log how long and how many are remembered."""

from __future__ import annotations

from collections.abc import Iterable

from phxqueue.net.envelope import varint
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.proto.store_pb2 import KeyBounds, StoreCommand
from phxqueue.store.group import StoreGroup
from phxqueue.store.keys import MAX_KEY_BYTES
from phxqueue.store.queues import StoreQueues
from phxqueue.store.served import ServedQueues
from phxqueue.store.state import KEYS_VERSION

_BOUNDS_TAG = varint(StoreCommand.KEY_BOUNDS_FIELD_NUMBER << 3 | 2)


class Keyed:
    """Of one Paxos group."""

    def __init__(self, group: StoreGroup, machine: StoreQueues) -> None:
        self._group = group
        self._machine = machine

    def admit(self, headers: Iterable[BatchHeader], served: ServedQueues) -> bytes:
        """Let batches with keys in; return what has to stand in front of them in their entry (mostly nothing).

        Raises:
            RpcError: INVALID_ARGUMENT, a key is too long; UNAVAILABLE, not all nodes know keys yet.
        """
        if self._machine.version < KEYS_VERSION and self._group.lowest_version < KEYS_VERSION:
            raise RpcError(
                Status.UNAVAILABLE,
                "a node of this store runs a version of PhxQueue that knows no idempotency keys: upgrade all of them",
                maybe_executed=False,
            )
        wanted: dict[int, KeyBounds] = {}
        for header in headers:
            if len(header.idempotency_key) > MAX_KEY_BYTES:
                raise RpcError(
                    Status.INVALID_ARGUMENT,
                    f"idempotency_key: it has {len(header.idempotency_key)} bytes, more than {MAX_KEY_BYTES}: give a "
                    "digest of it",
                )
            bounds = served.key_bounds[header.pub_id]
            if self._machine.keys.known_bounds(header.pub_id) != (bounds.window_ms, bounds.most):
                wanted[header.pub_id] = bounds
        return b"".join(_framed(bounds.SerializeToString()) for bounds in wanted.values())


def _framed(raw: bytes) -> bytes:
    """A serialized KeyBounds as it stands inside a serialized StoreCommand."""
    return _BOUNDS_TAG + varint(len(raw)) + raw
