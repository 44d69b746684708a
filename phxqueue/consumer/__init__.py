"""The client library for handling items, and the consumer daemon.

    from phxqueue.consumer import Result

    async def handle_order(context, item):
        await charge(item.buffer)
        return Result.OK

docs/api.md is written for its users. How it is made:

- pure: `assignment` (which consumer owns which queue), `cursor_window` (what may be acknowledged), `lanes` (equal
  uin one after another), `lineup` (what may start next: lanes, speed limits, batches);
- on the reactor: `worker` (fetches one queue and acknowledges), `handling` (runs handlers), `next_attempts` (what
  follows a failed one), `workshop` (what all handling shares), `sharing` (what all queues of a process share),
  `service` (the daemon's core), `daemon` (its twistd plugin).

It uses the producer for later attempts, and knows nothing of how a store works.
"""

from __future__ import annotations

from phxqueue.consumer.handlers import HandlerError, IBatchHandler, IHandler, IHandlerPlugin, Result, load_handlers
from phxqueue.consumer.items import BatchContext, Context, Item
from phxqueue.consumer.service import ConsumerService
from phxqueue.consumer.settings import ConsumerSettings

__all__ = [
    "BatchContext",
    "ConsumerService",
    "ConsumerSettings",
    "Context",
    "HandlerError",
    "IBatchHandler",
    "IHandler",
    "IHandlerPlugin",
    "Item",
    "Result",
    "load_handlers",
]
