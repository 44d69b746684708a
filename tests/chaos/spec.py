"""What the cluster of a round looks like, drawn from the seed: what is rare elsewhere happens all the time. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from phxqueue.admin.processes.files import ClusterSpec
from tests.chaos.disks import MIB

#: Store nodes, the last of them a learner; lock nodes. Store node N and lock node N are on machine N.
NODES, LEARNERS, LOCKS = 4, 1, 3
VOTERS = NODES - LEARNERS
SCHEDULERS, CONSUMERS = 2, 3
QUEUES = 6
DISK_BYTES = 512 * MIB
LOW_WATER = 48 * MIB
#: Of the masters of stores and of lock groups: the configuration's default.
MASTER_LEASE_S = 0.4
#: Of consumers on their queues, and of the schedulers' mastership: as short as may be.
OWNER_LEASE_S = 2
#: Pubs of one queue whose every operation is recorded (tests/chaos/historian.py), and who reads them.
WATCHED_PUBS, WATCHED_GROUP = {2: 2000, 3: 2001}, 2

OWNED = {"use_dynamic_scale": 1, "skip_lock": 0}
"""Queues are shared out by weights of the scheduler, and owned by lock."""
_SHARED = {"use_dynamic_scale": 0, "skip_lock": 1}


def spec_for(rng: random.Random, hosts: Sequence[str]) -> ClusterSpec:
    """A small cluster whose journals, checkpoints and retention turn over quickly."""
    journal = {
        "min_free_bytes": LOW_WATER,
        "free_check_interval_s": 0.2,
        "log_file_bytes": 4 * MIB,
        "log_buffer_bytes": MIB,
        "cache_bytes": 8 * MIB,
        "checkpoint_interval_s": rng.choice((1.0, 5.0)),
        "checkpoint_bytes": 8 * MIB,
    }
    replica = {
        "checkpoint_interval_s": rng.choice((0.5, 2.0, 10.0)),
        "checkpoint_entries": rng.choice((100, 1000, 20_000)),
    }
    return ClusterSpec(
        nodes=NODES,
        learners=LEARNERS,
        locks=LOCKS,
        schedulers=SCHEDULERS,
        queues=QUEUES,
        consumers=CONSUMERS,
        consumer_groups=(1,),
        handlers={1: "tests.integration.handlers:record_number_after_a_while"},
        hosts=hosts,
        topic={
            "scheduler_hash_keep_time_s": OWNER_LEASE_S,
            "scheduler_lock_lease_time_s": OWNER_LEASE_S,
            "consumer_lock_lease_time_s": OWNER_LEASE_S,
            "consumer_lock_interval_s": 1,
            "producer_report_interval_s": 1.0,
        },
        # Most rounds have owners: a group without locks has less that could go wrong.
        group=OWNED if rng.random() < 0.8 else _SHARED,
        pub={"retention_s": rng.choice((1.0, 10.0, 86_400.0))},
        store={"paxos_groups": rng.choice((1, 2, 4))},
        store_node={
            "journal": journal,
            "replica": replica,
            "limits": {"cache_bytes": rng.choice((MIB, 16 * MIB)), "index_segment_rows": rng.choice((64, 1024))},
        },
        lock={"paxos_groups": rng.choice((1, 2))},
        lock_node={"journal": journal, "replica": replica},
        further=_watched(),
    )


def _watched() -> Mapping[str, Sequence[Mapping[str, Any]]]:
    return {
        "queue_infos": [
            {"queue_info_id": queue, "ranges": [str(queue)], "count": -1} for queue in WATCHED_PUBS.values()
        ],
        "pubs": [
            {"pub_id": pub, "queue_info_ids": [queue], "consumer_group_ids": [WATCHED_GROUP]}
            for pub, queue in WATCHED_PUBS.items()
        ],
        "consumer_groups": [{"consumer_group_id": WATCHED_GROUP, **_SHARED}],
    }
