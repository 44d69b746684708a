"""The bounds and times of a lock client."""

from __future__ import annotations

from dataclasses import dataclass

from phxqueue.config import TopicSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LockClientSettings:
    """What topicconfig.conf says, in seconds; see there.

    Attributes:
        call_timeout_s: longest call that does not wait for anything, all retries included.
        wait_call_s: a longer wait is made of several calls.
        patience_s: how long a wait without an end of its own bears that no master can be reached.
        clock_drift: by how much, as a fraction, this clock may run slower than the server's.
        renewals_per_lease: how often a lock is renewed within one lease.
        renewal_tick_s: renewals that are due within so many seconds go together.
        renew_locks: most locks renewed by one call.
        check_s: how often a lock without an end to its lease is looked after.
        max_locks: held and waited for.
        max_waiting: waits for a lock or a change at the same time: fewer than calls fit into a connection.
        close_timeout_s: longest close() takes for giving back what is held; a single release as long.
        answer_slack_s: what an answer may take on top of the time that the server was asked to wait.
    """

    call_timeout_s: float = 10.0
    wait_call_s: float = 25.0
    patience_s: float = 30.0
    clock_drift: float = 0.01
    renewals_per_lease: int = 3
    renewal_tick_s: float = 0.1
    renew_locks: int = 500
    check_s: float = 10.0
    max_locks: int = 10_000
    max_waiting: int = 4000
    close_timeout_s: float = 5.0
    answer_slack_s: float = 2.0

    @classmethod
    def from_topic(cls, settings: TopicSettings) -> LockClientSettings:
        """What topicconfig.conf says."""
        return cls(
            call_timeout_s=settings.lock_call_timeout_ms / 1000,
            wait_call_s=settings.lock_wait_call_ms / 1000,
            patience_s=settings.lock_patience_s,
            clock_drift=settings.lock_clock_drift,
            renewals_per_lease=settings.lock_renewals_per_lease,
            renewal_tick_s=settings.lock_renewal_tick_ms / 1000,
            renew_locks=settings.lock_client_renew_locks,
            check_s=settings.lock_check_s,
            max_locks=settings.lock_client_max_locks,
            max_waiting=settings.lock_client_max_waiting,
            close_timeout_s=settings.lock_close_timeout_s,
        )
