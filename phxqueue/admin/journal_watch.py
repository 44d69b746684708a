"""The journal that a command writes to itself: what waits for one that has failed would wait for ever."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from phxqueue.admin.errors import AdminError

ResultT = TypeVar("ResultT")


class JournalWatch:
    """Ends the work on a journal that has failed.

    Attributes:
        reason: why it has; "": it works.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._work: Deferred[Any] | None = None

    def failed(self, reason: str) -> None:
        """What the journal calls (`on_fatal`)."""
        self.reason = reason
        if self._work is not None:
            self._work.cancel()

    async def while_it_works(self, work: Coroutine[Any, Any, ResultT], where: Path) -> ResultT:
        """Do something with the journal in a directory, and return what it returns.

        Raises:
            AdminError: the journal has failed.
        """
        running: Deferred[ResultT] = Deferred.fromCoroutine(work)
        self._work = running
        try:
            result = await running
        except CancelledError:
            if not self.reason:
                raise
            raise AdminError(f"{where}: {self.reason}") from None
        finally:
            self._work = None
        return result
