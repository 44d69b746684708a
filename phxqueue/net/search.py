"""The search for a master: one per route, shared by all calls that need its result.

When a master dies, everything in flight fails at once. If each of those calls looked for the new
master on its own, the surviving nodes would be busy saying "not me" just when they have to elect.
So calls of one route take turns: one is the scout and asks the nodes for all of them, one round at a
time. After a round without a master the next in turn asks; the others sleep until there is a master,
or until there has been none for so long that they give up. A scout that a node keeps waiting (a long
poll, a slow commit) is replaced after `handover_s`, and goes on alone.

Between rounds there is a pause: a tenth of the time searched so far, within `backoff_first_s` and
`backoff_max_s`, jittered. So a new master is found at most about a tenth later than it could be. A
round costs the same however many calls wait for what it shows.
"""

from __future__ import annotations

import random as random_module
from collections import Counter, OrderedDict
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from phxqueue.net.address import Address
from phxqueue.net.observations import Observation, Sight

BACKOFF_FRACTION = 0.1


class Search:
    """What the calls of one route know together.

    Args:
        clock, random: time, and jitter of the pauses.
        backoff_first_s, backoff_max_s: shortest and longest pause between two rounds.
        patience_s: who waits is woken, to give up, when nothing has been seen of a master for so long.

    Attributes:
        calls: how many calls take part.
        rounds: completed without finding a master.
        leaderless_since: since when nothing has been seen of a master (None = that cannot be said).
        seen: the last observation per node.
        asking: how many tries are under way at each node.
        scout: whoever has the turn; None = nobody.
    """

    def __init__(
        self,
        clock: IReactorTime,
        random: random_module.Random,
        backoff_first_s: float,
        backoff_max_s: float,
        patience_s: float,
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
        self._patience_s = patience_s
        self._passing_on = False
        self._pause: IDelayedCall | None = None
        self._waiting: OrderedDict[Deferred[None], None] = OrderedDict()  # in turn

    @property
    def pausing(self) -> bool:
        """Whether the next round must not begin yet."""
        return self._pause is not None

    def change(self, timeout: float) -> Deferred[None]:
        """Fires when a master is known, or it is the caller's turn to ask, or time to give up.

        With twisted's TimeoutError after `timeout` seconds.
        """
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
        self._wake_all()

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
            if self._hopeless():
                self._wake_all()
            self._pass_on()

    def left(self) -> None:
        """A call takes part no longer; if the turn was offered to it, another one has to have it."""
        self.calls -= 1
        if self.calls:
            self._pass_on()
        else:
            self._cancel_pause()

    def _pause_over(self) -> None:
        self._pause = None
        self._pass_on()

    def _hopeless(self) -> bool:
        since = self.leaderless_since
        return since is not None and self._clock.seconds() - since >= self._patience_s

    def _pass_on(self) -> None:
        """Offer the turn to those who wait, in turn, until one takes it: some give up instead, or know a master."""
        if self._passing_on:  # by one that has just been offered it, and leaves: the loop below goes on
            return
        self._passing_on = True
        try:
            while self._waiting and self.scout is None and self._pause is None:
                self._waiting.popitem(last=False)[0].callback(None)
        finally:
            self._passing_on = False

    def _cancel_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _wake_all(self) -> None:
        waiting, self._waiting = self._waiting, OrderedDict()
        for waiter in waiting:
            if not waiter.called:  # one that was told before it may have cancelled it
                waiter.callback(None)

    def _waiting_cancelled(self, waiter: Deferred[Any]) -> None:
        self._waiting.pop(waiter, None)
