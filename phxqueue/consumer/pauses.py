"""How long a queue's reader waits after what went wrong, and how often it says so."""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.consumer.items import Place
from phxqueue.consumer.settings import ConsumerSettings
from phxqueue.consumer.sharing import StoreHealth
from phxqueue.net.status import Retry, RpcError, Status

#: Failures that the end of an election mends.
_SEARCHING = frozenset((Status.NOT_MASTER, Status.NO_MASTER, Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED))


class Pauses:
    """Of one queue: they grow while things go wrong in a row.

    Attributes:
        refusals: acknowledgements that the store refused, in a row.
    """

    log = Logger()

    def __init__(self, place: Place, settings: ConsumerSettings, health: StoreHealth) -> None:
        self.refusals = 0
        self._place = place
        self._settings = settings
        self._health = health
        self._failures = 0
        self._hopeless = False  # the store said that this will never work; logged

    def answered(self) -> None:
        """A Get was answered."""
        self._failures = 0
        self._hopeless = False
        self._health.worked()

    def after_failure(self, failure: Failure) -> float:
        """Log a failed Get as often as it is worth, and say how long to wait at most."""
        settings, error = self._settings, failure.value
        pause = self._growing(self._failures)
        self._failures += 1
        if not isinstance(error, RpcError):
            self.log.failure("{place}: fetching failed unexpectedly", failure, place=self._place)
            return pause
        if error.status.retry is Retry.NEVER:
            if not self._hopeless:
                self._hopeless = True
                self.log.error("{place}: the store refuses to give items: {error}", place=self._place, error=error)
            return pause
        self._health.failed(error)
        if error.status in _SEARCHING:
            return min(pause, settings.search_backoff_s)
        return max(pause, error.retry_after_ms / 1000)

    def after_refusal(self, first: int, stop: int) -> float:
        """The store refuses the acknowledgement of these cursors: log it, and say how long to wait."""
        pause = self._growing(self.refusals)
        self.refusals += 1
        self.log.error(
            "{place}: the store refuses the acknowledgement of cursors {first} to {last}: what was finished is not "
            "what is stored (reconcile = strict); they are fetched and handled again in {pause:.1f} s",
            place=self._place, first=first, last=stop - 1, pause=pause,
        )  # fmt: skip
        return pause

    def _growing(self, times: int) -> float:
        return float(min(self._settings.backoff_max_s, self._settings.backoff_first_s * 2.0 ** min(times, 20)))
