"""What the parts of one producer share: whom they call, the time, the settings, what is counted, and who is told."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from phxqueue.net.routing import Caller
from phxqueue.producer.settings import ProducerSettings
from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.proto.store_pb2 import AddResult


@dataclass(slots=True)
class Stats:
    """What a producer has done so far, in items unless said otherwise. It only ever counts up."""

    enqueued: int = 0
    stored: int = 0
    stored_late: int = 0  # found to be stored when the caller had been told that nobody knows, or was gone
    refused: int = 0
    unknown: int = 0
    dropped: int = 0  # queue_infos with drop_all
    requests: int = 0  # tries included
    retries: int = 0  # requests sent again
    duplicates: int = 0  # batches of which a retry found that they had been stored
    settled: int = 0  # batches settled after their outcome had been told to be unknown
    abandoned: int = 0  # batches not settled in time


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Of one producer."""

    caller: Caller
    clock: IReactorTime
    random: random_module.Random
    settings: ProducerSettings
    stats: Stats
    topic_id: int
    producer_id: int
    left: Callable[[int, int], None]  # so many items and bytes are off the producer's hands
    unreachable: Callable[[int], None]  # this store could not be reached
    confirmed: Callable[[tuple[int, int], BatchHeader, AddResult], None]  # a lane has stored a batch
    sent: Callable[[tuple[int, int]], None]  # a lane has made batches
