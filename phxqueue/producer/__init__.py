"""The client library for putting items into queues.

    from phxqueue.producer import Producer

    producer = await Producer.connect("etc/globalconfig.conf", topic="test")
    receipt = await producer.enqueue(pub_id=1, handle_id=2, buffer=b"...", uin=7)
    await producer.close()

docs/api.md is written for its users. How it is made:

- pure: `items` (bytes and digests), `selection` and `routes` (which store, which queue), `plans` (validation),
  `batching` (what leaves when, and in which order), `admission` (the bound of the buffer), `requests`, `attempts`;
- on the reactor: `sender` (one per Paxos group: retries, outcomes), `dispatch` (all of them, the end of turns and of
  everything), `client` (the Producer), `connecting`; `surroundings` is what they share.

It knows the configuration, the wire vocabulary and the master-routing client, and nothing of how a store works.
"""

from __future__ import annotations

from phxqueue.producer.check_backs import CheckBack, Decision
from phxqueue.producer.client import Producer
from phxqueue.producer.entries import Cancelled, CancelledUnderWay
from phxqueue.producer.errors import (
    BadKey,
    BadText,
    BufferFull,
    BufferNotBytes,
    EnqueueError,
    HalfDecided,
    HalfUnknown,
    InvalidItem,
    ItemTooLarge,
    KeyReused,
    NotOnePlace,
    OutcomeUnknown,
    ProducerClosed,
    Refused,
    TooMuchAtOnce,
    UinOutOfRange,
    UnknownGroup,
    UnknownHandle,
    UnknownPub,
    UnknownTopic,
)
from phxqueue.producer.halves import Half, HalfItem
from phxqueue.producer.many import NewItem
from phxqueue.producer.receipts import Receipt, Receipts
from phxqueue.producer.settings import ProducerSettings

__all__ = [
    "BadKey",
    "BadText",
    "BufferFull",
    "BufferNotBytes",
    "Cancelled",
    "CancelledUnderWay",
    "CheckBack",
    "Decision",
    "EnqueueError",
    "Half",
    "HalfDecided",
    "HalfItem",
    "HalfUnknown",
    "InvalidItem",
    "ItemTooLarge",
    "KeyReused",
    "NewItem",
    "NotOnePlace",
    "OutcomeUnknown",
    "Producer",
    "ProducerClosed",
    "ProducerSettings",
    "Receipt",
    "Receipts",
    "Refused",
    "TooMuchAtOnce",
    "UinOutOfRange",
    "UnknownGroup",
    "UnknownHandle",
    "UnknownPub",
    "UnknownTopic",
]
