"""What stands around a replicated service in its tests: a Paxos group without Paxos, and the calls of its handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from phxqueue.net.status import RpcError
from phxqueue.replica.errors import NotServing, Overloaded

VALUE, NOOP = 0, 1
#: Handlers of stores and lock nodes do not look at the context of a call.
NO_CONTEXT: Any = None


class FakeGroup:
    """A Paxos group that chooses what `choose` lets through, in order.

    Args:
        whose: the replica set, for messages.

    Attributes:
        log: payload per instance.
        proposed: proposals that wait for `choose`.
        auto: choose every proposal at once.
    """

    def __init__(self, group_id: int, machine: Any, *, whose: str, auto: bool = True, master: int | None = 0) -> None:
        self.group_id = group_id
        self.state_machine = machine
        self.on_applied: list[Callable[[int, bytes], None]] = []
        self.on_mastership: list[Callable[[bool], None]] = []
        self.on_hand_over: list[Callable[[], None]] = []
        self.on_window_free: list[Callable[[], None]] = []
        self.auto = auto
        self.window = 64
        self.lease = True
        self.master = master
        self.log: list[bytes] = []
        self.proposed: list[tuple[bytes, Deferred[Any]]] = []
        self._whose = whose

    @property
    def window_free(self) -> bool:
        return len(self.proposed) < self.window

    def serving(self) -> bool:
        return self.master == 0 and self.lease

    def proposing(self) -> bool:
        return self.master == 0

    def master_node(self) -> int | None:
        return self.master

    def unreachable_reason(self) -> str:
        return f"no majority: 1 of 3 nodes of {self._whose} reachable"

    def propose(self, payload: bytes) -> Deferred[Any]:
        if not self.proposing():
            return fail(NotServing("not the master"))
        if not self.window_free:
            return fail(Overloaded("the window is full"))
        outcome: Deferred[Any] = Deferred()
        self.proposed.append((payload, outcome))
        if self.auto:
            self.choose()
        return outcome

    def choose(self, number: int = 1) -> None:
        """Let the oldest proposals be chosen and applied."""
        for _ in range(number):
            payload, outcome = self.proposed.pop(0)
            self.append(payload, outcome)

    def give_up(self, error: Exception) -> None:
        """Let the only proposal end without an outcome, while this node remains master."""
        [(_, outcome)] = self.proposed
        self.proposed.clear()
        outcome.errback(error)

    def append(self, payload: bytes, outcome: Deferred[Any] | None = None) -> None:
        """An entry is chosen: ours, or another master's."""
        instance = len(self.log)
        self.log.append(payload)
        result = self.state_machine.apply(instance, VALUE, payload)
        if outcome is not None:
            outcome.callback(result)
            for freed in list(self.on_window_free):
                freed()
        for applied in list(self.on_applied):
            applied(instance, payload)

    def lose(self, error: Exception, master: int | None = None) -> None:
        """Mastership is lost with entries in flight."""
        self.master = master
        proposed, self.proposed = self.proposed, []
        for _, outcome in proposed:
            outcome.errback(error)
        for changed in list(self.on_mastership):
            changed(False)

    def become_master(self) -> None:
        self.master = 0
        for changed in list(self.on_mastership):
            changed(True)


class Call:
    """A call of a handler: what it answered, when it has."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._result: Any = None
        self.deferred: Deferred[Any] | None = None
        try:
            result = make()
        except RpcError as error:
            self._result = error
            return
        if isinstance(result, Deferred):
            self.deferred = result
            result.addCallbacks(self._answered, self._failed)
        else:
            self._result = result

    def _answered(self, answer: Any) -> None:
        self._result = answer

    def _failed(self, failure: Failure) -> None:
        self._result = failure.value

    def give_up(self) -> None:
        """The caller no longer wants the answer."""
        assert self.deferred is not None
        self.deferred.cancel()

    @property
    def pending(self) -> bool:
        return self._result is None

    @property
    def failed(self) -> bool:
        return isinstance(self._result, BaseException)

    @property
    def outcome(self) -> Any:
        """The answer or the error."""
        return self._result

    @property
    def answer(self) -> Any:
        assert not isinstance(self._result, BaseException), self._result
        assert self._result is not None, "no answer yet"
        return self._result

    @property
    def error(self) -> RpcError:
        assert isinstance(self._result, RpcError), self._result
        return self._result

    @property
    def failure(self) -> BaseException:
        assert isinstance(self._result, BaseException), self._result
        return self._result
