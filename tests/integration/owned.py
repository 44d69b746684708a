"""Queues that are shared out by a scheduler and owned by locks, and how soon those of a dead consumer are free."""

from __future__ import annotations

#: Of a consumer group.
OWNED = {"use_dynamic_scale": 1, "skip_lock": 0}
#: Of a topic, where nobody is to lose a queue: leases that a busy machine does not outlast.
LASTING = {"consumer_lock_lease_time_s": 30}
#: Of a topic: silence and leases as short as may be.
QUICK_TAKEOVER = {"scheduler_hash_keep_time_s": 2, "consumer_lock_lease_time_s": 2, "consumer_lock_interval_s": 1}
