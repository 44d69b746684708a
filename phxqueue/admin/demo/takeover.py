"""A consumer is killed while messages wait for it, and the others take its queues over."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, TimeoutError

from phxqueue.admin.demo.follow import LogFollower
from phxqueue.admin.demo.layout import DaemonPlan, DemoLayout
from phxqueue.admin.demo.owners import by_owner, locked_queues, owners, when_owned
from phxqueue.admin.echo import ECHO_HANDLE, ECHO_PUB
from phxqueue.admin.errors import AdminError
from phxqueue.admin.gather import gather
from phxqueue.consumer.service import Owned
from phxqueue.lock.client import LockClient
from phxqueue.producer import Producer
from phxqueue.producer.routes import RouteTable

ResultT = TypeVar("ResultT")

#: Every queue of a consumer that lives has an owner after so long, and every one of a dead consumer.
TAKEOVER_TIMEOUT_S = 60.0
#: Keys tried to find one for a queue.
_MOST_KEYS = 100_000


class Takeover:
    """One consumer's death. `say` prints a line."""

    def __init__(
        self,
        reactor: Any,
        layout: DemoLayout,
        locks: LockClient,
        producer: Producer,
        logs: LogFollower,
        say: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._layout = layout
        self._locks = locks
        self._producer = producer
        self._logs = logs
        self._say = say
        self._names = {plan.address: plan.name for plan in layout.consumers}

    async def show_owners(self) -> dict[Owned, str]:
        """Wait until every queue has an owner, and say who has which; returns the owners' addresses."""
        queues = locked_queues(self._layout.topic)
        found = await self._in_time(owners(self._locks, queues), "not every queue has an owner")
        for owner, queue_ids in by_owner(found).items():
            self._say(f"  {self._name(owner)} owns {_queues(queue_ids)}")
        return found

    def victim(self, found: dict[Owned, str]) -> tuple[DaemonPlan, list[Owned]]:
        """Who has the most queues, of those that others could take over, and which."""
        mine = {plan: [queue for queue, owner in found.items() if owner == plan.address] for plan in self._plans}
        plan = max(self._plans, key=lambda plan: len(mine[plan]))
        return plan, mine[plan]

    async def watch(self, queues: Sequence[Owned], killed_at: float) -> None:
        """Send a message for each of a dead consumer's queues, and say who handles it, how long after the death."""
        waiting: dict[str, Owned] = {}
        messages = []
        for queue in queues:
            text = f"to queue {queue[2]} {secrets.token_hex(3)}"
            waiting[text] = queue
            messages.append(self._producer.enqueue(ECHO_PUB, ECHO_HANDLE, text.encode(), uin=self._key_of(queue)))
        await gather(_wait(message) for message in messages)
        self._say(f"  sent a message into each of its queues, {_queues([queue[2] for queue in queues])}")
        await self._in_time(self._handled(waiting, killed_at), "its queues were not taken over")

    async def _handled(self, waiting: dict[str, Owned], killed_at: float) -> None:
        while waiting:
            log, line = await self._logs.line(lambda line: any(text in line for text in waiting))
            text = next(text for text in waiting if text in line)
            heir = next(plan.name for plan in self._layout.consumers if plan.log_file.name == log.name)
            took = time.monotonic() - killed_at
            self._say(
                f"  queue {waiting.pop(text)[2]}: {heir} has it and handled its message, {took:.1f} s after the kill"
            )

    async def given_back(self, plan: DaemonPlan, queues: Sequence[Owned]) -> None:
        """Wait until a consumer that was started again has its queues again, and say so."""
        began = time.monotonic()
        waits = gather(when_owned(self._locks, queue, plan.address) for queue in queues)
        await self._in_time(waits, f"{plan.name} did not get its queues back")
        took = time.monotonic() - began
        shown = _queues([queue[2] for queue in queues])
        self._say(f"  {plan.name} has {shown} again after {took:.1f} s; the others finished what they had begun first")

    @property
    def _plans(self) -> tuple[DaemonPlan, ...]:
        return self._layout.consumers

    def _name(self, address: str) -> str:
        return self._names.get(address, f"somebody else ({address})")

    def _key_of(self, queue: Owned) -> int:
        """A key whose messages go to a queue."""
        topic = self._layout.topic
        routes = RouteTable(topic).pub(ECHO_PUB)
        for key in range(1, _MOST_KEYS):
            target = routes.target(topic.attempt_queue_info(ECHO_PUB, 0), key, routes.full_mask)
            if (target.store_id, target.queue_id) == queue[1:]:
                return key
        raise AdminError(f"no key leads to queue {queue[2]} of store {queue[1]}")

    async def _in_time(self, work: Coroutine[Any, Any, ResultT], problem: str) -> ResultT:
        try:
            return await Deferred.fromCoroutine(work).addTimeout(TAKEOVER_TIMEOUT_S, self._reactor)
        except TimeoutError:
            raise AdminError(
                f"{problem} within {TAKEOVER_TIMEOUT_S:g} s; `phxqueue locks list queue/` shows who holds which, and "
                "logs/ why"
            ) from None


async def _wait(one: Awaitable[object]) -> None:
    await one


def _queues(numbers: Sequence[int]) -> str:
    return f"queue{'s' if len(numbers) != 1 else ''} {', '.join(map(str, numbers)) or 'none'}"
