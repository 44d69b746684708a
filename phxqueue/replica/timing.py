"""The times of a Paxos group, out of the few that its replica set is configured with. Pure.

Everything that waits for an answer has to wait longer where answers take longer. One setting says how far apart the
members are, ``master_lease_ms``, and the others grow with it; at the lease of a LAN they are the core's defaults. A
round trip should fit into a heartbeat interval: members 100 ms apart need 200 ms for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from phxqueue.config.cluster import ReplicaSet

STEP_DOWN_LEASES = 2.0
"""A master that no majority answers for so many leases gives up."""
ELECTION_LEASES = 0.25
"""A round of asking whether promises would be given."""
RETRANSMIT_LEASES = 0.5
"""An entry that was not answered for so long is sent again ..."""
RETRANSMIT_MAX_LEASES = 4.0
"""... and again, at intervals that grow up to this."""
LEARN_LEASES = 1.25
"""What is missing is asked of another member after so long."""
RECOVERY_LEASES = 5.0
"""A new master that learns nothing for so long gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTimes:
    """The fields of :class:`phxqueue.paxos.config.GroupConfig` that are times, in seconds."""

    heartbeat_interval: float
    lease: float
    max_clock_drift: float
    election_stagger: float
    election_timeout: float
    step_down_after: float
    retransmit_interval: float
    retransmit_interval_max: float
    learn_timeout: float
    recovery_timeout: float


def group_times(replica_set: ReplicaSet) -> GroupTimes:
    """Return the times of every group of a replica set."""
    lease = replica_set.master_lease_ms / 1000
    return GroupTimes(
        heartbeat_interval=replica_set.heartbeat_interval_ms / 1000,
        lease=lease,
        max_clock_drift=replica_set.max_clock_drift_ms / 1000,
        election_stagger=replica_set.election_stagger_ms / 1000,
        election_timeout=lease * ELECTION_LEASES,
        step_down_after=lease * STEP_DOWN_LEASES,
        retransmit_interval=lease * RETRANSMIT_LEASES,
        retransmit_interval_max=lease * RETRANSMIT_MAX_LEASES,
        learn_timeout=lease * LEARN_LEASES,
        recovery_timeout=lease * RECOVERY_LEASES,
    )
