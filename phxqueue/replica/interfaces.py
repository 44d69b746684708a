"""What the runtime asks of its surroundings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from google.protobuf.message import Message as Record
from zope.interface import Attribute, Interface

from phxqueue.paxos.messages import Message
from phxqueue.proto.methods import Method

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from phxqueue.replica.portions import Portions, PutInPlace

RequestT = TypeVar("RequestT", bound=Record)
ResponseT = TypeVar("ResponseT", bound=Record)


class IStateMachine(Interface):
    """A replicated state machine: pure, deterministic, fed with chosen entries in order.

    ``apply`` depends on the entry and prior state alone: not on local configuration, clock or node.
    """

    applied: int = Attribute("Instance of the last entry applied; -1 before the first.")

    def apply(instance: int, kind: int, payload: bytes) -> Any:
        """Apply one chosen entry; return the result that its proposer gets.

        A payload that makes no sense yields a deterministic error *result*. Only a command version newer than this
        program raises (:class:`phxqueue.replica.errors.Halted`): guessing would make replicas diverge.
        """

    def checkpoint() -> Checkpoint:
        """Return the state as of ``applied``, and the segments sealed and the ones outlived since the last call."""

    def restore(state: bytes, segments: Iterable[tuple[bytes, bytes]]) -> None:
        """Take over a checkpoint's state and all segments stored so far (also ones sealed after it: ignore those)."""

    def restoring(state: bytes, segments: Iterable[tuple[bytes, bytes]]) -> Portions[PutInPlace]:
        """The same in portions, with entries applied in between: nothing changes before what it returns is called.

        Raises ValueError, as does ``restore``, when the checkpoint is no good.
        """

    def state_hash() -> int:
        """Return a hash of the whole replicated state: equal on all replicas at equal ``applied``."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state machine's state at one instance, ready to be written in one transaction.

    Attributes:
        applied: the instance.
        state: everything but the segments.
        segments: (key, value) of immutable blobs that the state rests on, each handed out once.
        dropped: keys of segments handed out earlier that neither this state nor a later one rests on.
        needed: the state machine still reads entries from this instance on; lower ones may leave the log once this
            checkpoint is durable. 0: nothing may.
    """

    applied: int
    state: bytes
    segments: Sequence[tuple[bytes, bytes]]
    dropped: Sequence[bytes] = ()
    needed: int = 0


class ITransport(Interface):
    """Carries messages to the other members; may lose, delay, repeat and reorder them."""

    def send(receiver: int, messages: Sequence[tuple[int, Message]]) -> None:
        """Send (group_id, message) pairs to a node in one frame; never raises, never blocks."""

    def call(
        receiver: int, method: Method[RequestT, ResponseT], request: RequestT, timeout: float
    ) -> Deferred[ResponseT]:
        """Call a node; fails with RpcError, at the latest after `timeout` seconds."""

    def reachable() -> frozenset[int]:
        """Return the other members this node has a working connection to, right now."""


class DelayedCall(Protocol):
    """The part of Twisted's delayed call that the runtime needs."""

    def cancel(self) -> None: ...

    def active(self) -> bool: ...


class Clock(Protocol):
    """A monotonic clock with timers: the reactor, :class:`twisted.internet.task.Clock`, or a simulated one."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> DelayedCall: ...
