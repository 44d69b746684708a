"""The search for a master: one per route, shared by all calls that need its result.

When a master dies, everything in flight fails at once. If each of those calls looked for the new
master on its own, the surviving nodes would be busy saying "not me" just when they have to elect.
So calls of one route take turns: one is the scout and asks the nodes, one round at a time; the
others wait until it has found the master or its round has ended without one. A scout that a node
keeps waiting (a long poll, a slow commit) is replaced after `handover_s`, and goes on alone.

Between rounds there is a pause: a tenth of the time searched so far, within `backoff_first_s` and
`backoff_max_s`, jittered. So a new master is found at most about a tenth later than it could be.
"""

from __future__ import annotations

import random as random_module
from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from phxqueue.net.address import Address
from phxqueue.net.observations import Observation, Sight

BACKOFF_FRACTION = 0.1


class Search:
    """What the calls of one route know together.

    Attributes:
        calls: how many calls take part.
        rounds: completed without finding a master.
        leaderless_since: since when nothing has been seen of a master (None = that cannot be said).
        seen: the last observation per node.
        asking: how many tries are under way at each node.
        scout: whoever has the turn; None = nobody.
    """

    def __init__(
        self, clock: IReactorTime, random: random_module.Random, backoff_first_s: float, backoff_max_s: float
    ) -> None:
        self.calls = 0
        self.rounds = 0
        self.leaderless_since: float | None = None
        self.seen: dict[Address, Observation] = {}
        self.asking: Counter[Address] = Counter()
        self.scout: object | None = None
        self._clock = clock
        self._random = random
        self._backoff_first_s = backoff_first_s
        self._backoff_max_s = backoff_max_s
        self._pause: IDelayedCall | None = None
        self._waiting: dict[Deferred[None], None] = {}  # an ordered set

    @property
    def pausing(self) -> bool:
        """Whether the next round must not begin yet."""
        return self._pause is not None

    def change(self, timeout: float) -> Deferred[None]:
        """Fires when it makes sense to look again; with twisted's TimeoutError after `timeout` seconds."""
        waiting: Deferred[None] = Deferred(self._waiting_cancelled)
        self._waiting[waiting] = None
        return waiting.addTimeout(max(timeout, 0.0), self._clock)

    def noted(self, address: Address, observation: Observation) -> None:
        """Remember what a try showed."""
        self.seen[address] = observation
        if not observation.sight.leaderless:
            self.leaderless_since = None

    def is_silent(self, address: Address) -> bool:
        """Whether the last try at this node ended in silence."""
        observation = self.seen.get(address)
        return observation is not None and observation.sight is Sight.SILENT

    def found(self) -> None:
        """A master is known: everybody may go there."""
        self.leaderless_since = None
        self._cancel_pause()
        self._changed()

    def round_failed(self, scout: object, began: float, sights: list[Sight]) -> None:
        """A round ended without a master. Call `hand_over` as well."""
        self.rounds += 1
        now = self._clock.seconds()
        if not all(sight.leaderless for sight in sights):
            self.leaderless_since = None
        elif self.leaderless_since is None:
            self.leaderless_since = began
        if self.scout is scout and self._pause is None:
            searched = now - (began if self.leaderless_since is None else self.leaderless_since)
            pause = min(max(searched * BACKOFF_FRACTION, self._backoff_first_s), self._backoff_max_s)
            self._pause = self._clock.callLater(pause * self._random.uniform(0.5, 1.0), self._pause_over)

    def hand_over(self, scout: object) -> None:
        """The scout has finished its round, or takes too long: somebody else may try."""
        if self.scout is scout:
            self.scout = None
            self._changed()

    def left(self) -> None:
        """Nobody takes part any more."""
        self._cancel_pause()

    def _pause_over(self) -> None:
        self._pause = None
        self._changed()

    def _cancel_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _changed(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            if not waiter.called:  # one that was told before it may have cancelled it
                waiter.callback(None)

    def _waiting_cancelled(self, waiter: Deferred[Any]) -> None:
        self._waiting.pop(waiter, None)
