"""Answers the stores' questions about half messages that nobody has decided.

One long poll per node of the topic's stores; a node tells of the groups it is master of. Whichever producer of the name
polls gets the question, so it need not be the one that prepared; a question that is not answered is asked again later,
of anybody. The application's answer is carried out here, as its own commit or roll_back would be.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, TimeoutError, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from phxqueue.config import Topic
from phxqueue.net.address import Address
from phxqueue.net.routing import Route
from phxqueue.net.status import RpcError
from phxqueue.producer.errors import EnqueueError, HalfDecided
from phxqueue.producer.halves import Half, HalfId, HalfItem
from phxqueue.producer.surroundings import Surroundings
from phxqueue.proto.methods import POLL_CHECK_BACKS
from phxqueue.proto.store_pb2 import HalfMessage, PollCheckBacksRequest

#: A poll waits so long, and gets that much more for its answer, in seconds.
WAIT_S = 20.0
GRACE_S = 5.0
#: Pauses after a poll that failed, in seconds.
AGAIN_S = 0.1
AGAIN_MAX_S = 5.0
#: An application that has not answered after so long, in seconds, is asked again another time, as if it had not been.
ANSWER_S = 60.0


class Decision(enum.Enum):
    """What an application knows of a half message."""

    COMMIT = "commit"
    ROLL_BACK = "roll back"
    UNDECIDED = "undecided"  # ask again later


CheckBack = Callable[[Half], "Decision | Awaitable[Decision]"]
Node = tuple[int, int]
"""(store id, node id)"""


class CheckBacks:
    """Of one producer.

    Args:
        name: whose half messages.
        check_back: the application's answer.
        make: a half message by its name and content.
    """

    log = Logger()

    def __init__(
        self,
        surroundings: Surroundings,
        topic: Topic,
        name: str,
        check_back: CheckBack,
        make: Callable[[HalfId, HalfItem | None], Half],
    ) -> None:
        self._all = surroundings
        self._name = name
        self._check_back = check_back
        self._make = make
        self._loops: dict[Node, Deferred[None]] = {}
        self.reconfigure(topic)

    def reconfigure(self, topic: Topic) -> None:
        """Poll the nodes of a newer configuration."""
        nodes = {
            (store.store_id, node.node_id): Address(node.ip, node.port)
            for store in topic.stores
            for node in store.nodes
            if node.kind != "witness"
        }
        for gone in self._loops.keys() - nodes.keys():
            self._loops.pop(gone).cancel()
        for node, address in nodes.items():
            if node not in self._loops:
                route = Route(
                    key=f"check-backs:{topic.topic_id}:{node[0]}:{node[1]}",
                    candidates=(address,),
                    what=f"node {node[1]} of store {node[0]}",
                )
                self._loops[node] = loop = Deferred.fromCoroutine(self._poll(topic.topic_id, node[0], route))
                loop.addErrback(lambda failure: failure.trap(CancelledError))
                loop.addErrback(lambda failure: self.log.failure("polling for check-backs ended", failure))

    def close(self) -> None:
        """Poll no more."""
        loops, self._loops = self._loops, {}
        for loop in loops.values():
            loop.cancel()

    async def _poll(self, topic_id: int, store_id: int, route: Route) -> None:
        request = PollCheckBacksRequest(
            topic_id=topic_id, store_id=store_id, name=self._name, wait_ms=round(WAIT_S * 1000)
        )
        pause = AGAIN_S
        while True:
            try:
                answer = await self._all.caller.call(
                    route, POLL_CHECK_BACKS, request, WAIT_S + GRACE_S, try_timeout_s=WAIT_S + GRACE_S
                )
            except CancelledError:
                raise
            except Exception as error:
                # A node that is down, or no master of anything, is nothing to tell anybody: others are polled as well.
                if not isinstance(error, RpcError):
                    self.log.failure("a defect of the producer itself, while it polled {what}", what=route.what)
                await deferLater(self._all.clock, pause * self._all.random.uniform(0.5, 1.0))
                pause = min(pause * 2, AGAIN_MAX_S)
                continue
            pause = AGAIN_S
            asked = [Deferred.fromCoroutine(self._answer(store_id, half)) for half in answer.halves]
            await DeferredList(asked, consumeErrors=True)

    async def _answer(self, store_id: int, message: HalfMessage) -> None:
        half_id = HalfId(store_id, message.queue_id, message.half_number)
        try:
            half = self._make(half_id, HalfItem.read(message.items))
            decision = Decision(await self._said(half))
        except TimeoutError:
            self.log.warn(
                "check_back said nothing about half message {half_id} within {seconds:g} s: it stays undecided",
                half_id=half_id,
                seconds=ANSWER_S,
            )
            return
        except CancelledError:
            return  # the producer closes
        except Exception:
            self.log.failure("check_back failed for half message {half_id}: it stays undecided", half_id=half_id)
            return
        try:
            if decision is Decision.COMMIT:
                await half.commit()
            elif decision is Decision.ROLL_BACK:
                await half.roll_back()
        except HalfDecided as error:
            self.log.warn("{error} (meanwhile: check_back says {decision})", error=error, decision=decision.value)
        except EnqueueError as error:
            self.log.warn("{half}: {error}; it is asked about again", half=half, error=error)
        except CancelledError:
            return  # the producer closes
        except Exception:
            self.log.failure("a defect of the producer itself, while it decided {half}", half=half)

    def _said(self, half: Half) -> Deferred[Any]:
        """What the application says; fails with Twisted's TimeoutError when it does not."""
        said: Any = self._check_back(half)
        if not isinstance(said, Deferred):
            said = Deferred.fromCoroutine(_awaited(said)) if isinstance(said, Awaitable) else succeed(said)
        answer: Deferred[Any] = said
        return answer.addTimeout(ANSWER_S, self._all.clock)


async def _awaited(said: Awaitable[Any]) -> Any:
    return await said
