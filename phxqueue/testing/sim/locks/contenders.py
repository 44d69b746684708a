"""Clients that want locks: they acquire, wait, renew, stand still, release, and now and then just vanish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.lock_pb2 import (
    AcquireLockRequest,
    AcquireLockResponse,
    LockInfo,
    LockRenewal,
    ReleaseLockRequest,
    RenewLockRequest,
    RenewLockResponse,
    RenewLocksRequest,
    RenewLocksResponse,
)
from phxqueue.testing.sim.calls import Answer, Caller
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.locks.books import LockBooks
from phxqueue.testing.sim.locks.nodes import LOCK_ID, TOPIC_ID

#: How much faster than the client's own the master's clock may run.
DRIFT = 0.025
LEASES = (0.1, 0.3, 0.8)
NOT_MINE = frozenset({Status.NOT_FOUND, Status.VERSION_MISMATCH})
FORCED = "forced"
"""The lock that is taken by force now and then: nobody can believe to hold it, only its tokens tell."""


class Contender:
    """One client after another, each wanting a lock once; what the calls say is told to the books.

    Attributes:
        client_id: of the present acquisition.
        has_held: it has got a lock.
        holding: it holds one, as far as it knows, and has not begun to give it back.
        done: it has had all its turns.
    """

    def __init__(self, cluster: Cluster, books: LockBooks, number: int, locks: list[str], turns: int) -> None:
        self.done = False
        self.has_held = False
        self.holding = False
        self._number = number
        self._cluster = cluster
        self._books = books
        self._world = cluster.world
        self._random = cluster.world.random
        self._caller = Caller(cluster, tolerated=NOT_MINE)
        self._fellows = books.contenders
        self._fellows.append(self)
        self._locks = locks
        self._turns = turns
        self._rate = self._random.uniform(0.99, 1.01)
        self._name = ""
        self.client_id = ""

    def start(self) -> None:
        """Want a lock."""
        self.holding = False
        if not self._turns:
            self.done = True
            return
        random = self._random
        self._turns -= 1
        self._name = random.choice(self._locks)
        self.client_id = f"{self._number}.{self._turns}"
        self._lease = random.choice(LEASES)
        self._infinite = random.random() < 0.1
        self._wait = random.choice((0.0, 0.3, 1.5))
        self._force = self._name == FORCED and random.random() < 0.3
        self._begun = self._world.now
        self._lowest_token = self._books.exclusion.highest_token(self._name)
        self._version = 0
        self._until = 0.0  # true time at which it stops believing that it holds the lock
        self._doubt = False  # an earlier try of the present call may have been carried out
        self._acquire()

    # ---- acquiring --------------------------------------------------------------------------------

    def _acquire(self) -> None:
        sent, floor = self._world.now, self._books.floor(self._name)
        request = AcquireLockRequest(
            topic_id=TOPIC_ID,
            lock_id=LOCK_ID,
            lock_key=self._name,
            client_id=self.client_id,
            force=self._force,
            wait_ms=int(self._wait * 1000),
            waited_ms=int((sent - self._begun) * 1000) if self._wait else 0,
            **self._wish(),
        )

        def answered(result: Answer) -> None:
            if not isinstance(result, AcquireLockResponse):
                self._later(self._acquire)
            elif result.acquired:
                self._told(result.lock_info, floor)
                self.has_held = self.holding = True
                self._version = result.lock_info.version
                self._believe(sent + self._counted(result.waited_ms / 1000))
                self._hold_until = self._world.now + self._random.choice((0.0, 0.2, 1.0)) * self._random.random()
                self._holding()
            else:
                if result.HasField("lock_info"):
                    self._told(result.lock_info, floor)
                self._later(self._acquire)

        timeout = self._wait + self._random.choice((0.3, 1.0))
        self._caller.call(methods.ACQUIRE_LOCK, request, answered, timeout)

    def _wish(self) -> dict[str, Any]:
        return {"infinite": True} if self._infinite else {"lease_time_ms": int(self._lease * 1000)}

    def _told(self, info: LockInfo, floor: int) -> None:
        self._books.told(self._name, floor, info.client_id, info.version)

    def _believe(self, begun: float) -> None:
        """The lease began not before `begun`, true time; the client counts it on its own clock."""
        self._until = max(self._until, begun + (1e9 if self._infinite else self._counted(self._lease)))
        until = 0.0 if self._name == FORCED else self._until
        self._books.exclusion.holds(self._name, self.client_id, self._version, self._lowest_token, until)

    def _counted(self, seconds: float) -> float:
        """How long, in true seconds, the client dares to count what the master calls so many."""
        return seconds * (1 - DRIFT) / self._rate

    # ---- holding ----------------------------------------------------------------------------------

    def _holding(self) -> None:
        """Renew in time, stand still, or stop."""
        random, world = self._random, self._world
        if world.now >= self._hold_until:
            if not self._infinite and random.random() < 0.2:  # it vanishes, and believes for as long as it may
                self.start()
            else:
                self._doubt = False
                self._release()
        elif random.random() < 0.1:
            world.call_later(2 * self._lease * random.random(), self._holding)
        else:
            world.call_later(self._lease / 3, self._renew)

    def _renew(self) -> None:
        if self._random.random() < 0.5:
            self._renew_many()
            return
        sent, floor = self._world.now, self._books.floor(self._name)

        def answered(result: Answer) -> None:
            if isinstance(result, RenewLockResponse):
                self._told(result.lock_info, floor)
                self._believe(sent)
            elif isinstance(result, RpcError) and result.status in NOT_MINE:
                self._lost(f"a renewal was answered {result}")
                self.start()
                return
            self._holding()

        self._caller.call(methods.RENEW_LOCK, self._renewal(), answered, self._lease / 2)

    def _renewal(self) -> RenewLockRequest:
        return RenewLockRequest(
            topic_id=TOPIC_ID,
            lock_id=LOCK_ID,
            lock_key=self._name,
            client_id=self.client_id,
            version=self._version,
            **self._wish(),
        )

    def _renew_many(self) -> None:
        """Renew together with others, as if all were locks of one process; each looks at its own outcome."""
        random, group = self._random, self._books.group(self._name)
        others = [one for one in self._fellows if one is not self and one.holding and random.random() < 0.7]
        renewed = [self, *(one for one in others if self._books.group(one._name) == group)]
        random.shuffle(renewed)
        sent, floor = self._world.now, self._books.floor(self._name)
        meant = [(one, one._renewal()) for one in renewed]
        request = RenewLocksRequest(topic_id=TOPIC_ID, lock_id=LOCK_ID, paxos_group=group)
        request.renewals.extend(renewal for _, renewal in meant)

        def answered(result: Answer) -> None:
            lost = False
            if isinstance(result, RenewLocksResponse):
                for (one, renewal), outcome in zip(meant, result.renewals, strict=True):
                    if not outcome.status:
                        self._books.told(renewal.lock_key, floor, renewal.client_id, renewal.version)
                    lost |= one._renewed(renewal.client_id, sent, outcome) and one is self
            if lost:
                self.start()
            else:
                self._holding()

        self._caller.call(methods.RENEW_LOCKS, request, answered, self._lease / 2)

    def _renewed(self, client_id: str, sent: float, outcome: LockRenewal) -> bool:
        """A renewal that was sent, with others, at `sent`, true time, has an outcome; True: the lock is not ours."""
        if not self.holding or self.client_id != client_id:
            return False  # it has let go of that lock meanwhile
        if not outcome.status:
            self._believe(sent)
        elif outcome.status in NOT_MINE:
            self._lost(f"a renewal was answered {outcome.message}")
            return True
        return False

    def _lost(self, why: str) -> None:
        """The client was told that the lock is not its own any more: not before its lease has ended."""
        if self._world.now < self._until and self._name != FORCED:
            raise Violation(f"{self.client_id} holds {self._name!r} until {self._until:.4f}, and {why}")

    # ---- releasing --------------------------------------------------------------------------------

    def _release(self) -> None:
        until, self._until = self._until, 0.0
        self.holding = False
        self._books.exclusion.lets_go(self._name, self.client_id)
        request = ReleaseLockRequest(
            topic_id=TOPIC_ID,
            lock_id=LOCK_ID,
            lock_key=self._name,
            client_id=self.client_id,
            version=self._version,
        )

        def answered(result: Answer) -> None:
            if isinstance(result, RpcError) and result.status in NOT_MINE:
                if not self._doubt:
                    self._until = until
                    self._lost(f"its first release was answered {result}")
            elif result is None or isinstance(result, RpcError):
                self._doubt |= result is None or result.maybe_executed
                self._later(self._release)
                return
            self._later(self.start)

        self._caller.call(methods.RELEASE_LOCK, request, answered)

    def _later(self, action: Callable[[], None]) -> None:
        self._world.call_later(self._random.uniform(0.005, 0.05), action)
