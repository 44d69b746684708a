"""Is the peer still there? Keep-alive as a pure state machine: times in, verdicts out.

A TCP connection to a machine that lost power looks open for hours. So after an interval of silence
a PING goes out, and silence after that for the time-out proves the peer gone. A peer that does not
take our bytes at all (a stalled reader) is found by lack of progress of the write buffer.

A process that was itself stopped for a while (SIGSTOP, a busy host) finds everybody silent when it
wakes, and must not blame them: a tick that comes far too late starts the clocks again.
"""

from __future__ import annotations

import enum


class Verdict(enum.Enum):
    """What `Liveness.tick` found."""

    FINE = "fine"
    PING = "send a ping"
    SILENT = "the peer answered no ping"
    STALLED = "the peer takes no bytes"


class Liveness:
    """The keep-alive state of one connection. All times in seconds of one monotonic clock.

    Attributes:
        period: `tick` is to be called this often.
        last_heard: when bytes last arrived; set by the owner on every read.
    """

    __slots__ = (
        "_interval",
        "_not_before",
        "_pinged_at",
        "_stall_timeout",
        "_ticked_at",
        "_timeout",
        "last_heard",
        "period",
    )

    def __init__(self, interval: float, timeout: float, stall_timeout: float, now: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._stall_timeout = stall_timeout
        self.period = min(interval, timeout, stall_timeout) / 2
        self.restart(now)

    def restart(self, now: float) -> None:
        """Forget all silence before now."""
        self.last_heard = now
        self._ticked_at = now
        self._not_before = now  # what happened (or did not) before is nobody's fault
        self._pinged_at: float | None = None

    def tick(self, now: float, *, stalled_since: float | None, reading: bool) -> Verdict:
        """Judge the peer.

        Args:
            now: the time.
            stalled_since: since when the peer has not taken the bytes that wait for it; None = none wait.
            reading: whether we read from the peer at all; when not, its silence means nothing.
        """
        if now - self._ticked_at > 2 * self.period:  # it was us who slept
            self.restart(now)
            return Verdict.FINE
        self._ticked_at = now
        if stalled_since is not None and now - max(stalled_since, self._not_before) >= self._stall_timeout:
            return Verdict.STALLED
        if not reading:
            self._pinged_at = None
            self.last_heard = now
            return Verdict.FINE
        return self._judge_silence(now)

    def _judge_silence(self, now: float) -> Verdict:
        if self._pinged_at is not None:
            if self.last_heard >= self._pinged_at:
                self._pinged_at = None
            elif now - self._pinged_at >= self._timeout:
                return Verdict.SILENT
            else:
                return Verdict.FINE
        if now - self.last_heard >= self._interval:
            self._pinged_at = now
            return Verdict.PING
        return Verdict.FINE
