"""The master's side of idempotency keys: checks them, and tells the log how long and how many are remembered."""

from __future__ import annotations

from collections.abc import Iterable

from phxqueue.net.envelope import varint
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.proto.store_pb2 import KeyBounds, StoreCommand
from phxqueue.store.keys import MAX_KEY_BYTES, KeyWindows
from phxqueue.store.served import ServedQueues

_BOUNDS_TAG = varint(StoreCommand.KEY_BOUNDS_FIELD_NUMBER << 3 | 2)


def key_bounds(keys: KeyWindows, headers: Iterable[BatchHeader], served: ServedQueues) -> bytes:
    """What has to stand in front of batches with keys in their entry: mostly nothing.

    Raises:
        RpcError: INVALID_ARGUMENT, a key is too long.
    """
    wanted: dict[int, KeyBounds] = {}
    for header in headers:
        if len(header.idempotency_key) > MAX_KEY_BYTES:
            raise RpcError(
                Status.INVALID_ARGUMENT,
                f"idempotency_key: it has {len(header.idempotency_key)} bytes, more than {MAX_KEY_BYTES}: "
                "give a digest of it",
            )
        bounds = served.key_bounds[header.pub_id]
        if keys.known_bounds(header.pub_id) != (bounds.window_ms, bounds.most):
            wanted[header.pub_id] = bounds
    return b"".join(_framed(bounds.SerializeToString()) for bounds in wanted.values())


def _framed(raw: bytes) -> bytes:
    """A serialized KeyBounds as it stands inside a serialized StoreCommand."""
    return _BOUNDS_TAG + varint(len(raw)) + raw
