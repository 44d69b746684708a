"""`pubs[]` of topicconfig.conf: one publishing route."""

from __future__ import annotations

from typing import Literal

from phxqueue.config.cluster import DEAD_LETTER_BASE
from phxqueue.config.fields import MIB, Decimal, Id, Restart, Whole, setting
from phxqueue.config.schema import Block

LIVE = Restart.LIVE


class PubEntry(Block):
    """`pubs[]`: a publishing route."""

    pub_id: Whole = setting(meaning="Number of the pub.", ge=1, le=DEAD_LETTER_BASE - 1, restart=LIVE)
    queue_info_ids: tuple[Id, ...] = setting(
        meaning="Its attempt chain: first attempts go to the first, later ones further on.", restart=LIVE
    )
    priority_queue_info_ids: tuple[Id, ...] = setting(
        (),
        "Where first attempts with a `priority` go: 1 to the first, 2 to the second, ... Without one they go to the "
        "first of queue_info_ids; what is retried goes on in that chain. See `weight` of queue_infos.",
        restart=LIVE,
    )
    consumer_group_ids: tuple[Id, ...] = setting(meaning="Consumer groups that get a copy of every item.", restart=LIVE)
    retention_s: Decimal = setting(
        86_400.0,
        "How long items stay readable (peek, replay) after every group has acknowledged them; what is not "
        "acknowledged always stays.",
        unit="s",
        ge=0.0,
        le=3_153_600_000.0,
        restart=LIVE,
    )
    retention_bytes: Whole = setting(
        256 * MIB,
        "Acknowledged items that a queue keeps at most, the newest, within retention_s.",
        unit="bytes",
        ge=0,
        le=1 << 50,
        restart=LIVE,
    )
    reconcile: Literal["off", "alarm", "strict"] = setting(
        "alarm",
        "What an acknowledgement is compared with what is stored for: nothing; an alarm when items were lost, invented "
        "or altered; `strict`: then it is refused as well, and the items come again. Of several pubs of a queue the "
        "strictest counts.",
        restart=LIVE,
    )
    expired: Literal["dead", "drop"] = setting(
        "dead",
        "What becomes of an item whose `ttl` has passed: it is a dead letter, or it is dropped and counted.",
        restart=LIVE,
    )
    idempotency_window_s: Decimal = setting(
        3600.0,
        "How long an item's `idempotency_key` is remembered: the same key within that time stores nothing.",
        unit="s",
        ge=0.001,
        le=31_536_000.0,
        restart=LIVE,
    )
    idempotency_keys: Whole = setting(
        100_000,
        "Keys remembered at a time, per Paxos group, about 200 bytes of memory each. None is forgotten before its "
        "time: more new ones are refused with RESOURCE_EXHAUSTED.",
        unit="keys",
        ge=0,
        le=10_000_000,
        restart=LIVE,
    )
    check_back_after_s: Decimal = setting(
        60.0,
        "When the producers are asked about a half message that is not decided, counted from when it was prepared.",
        unit="s",
        ge=0.001,
        le=31_536_000.0,
        restart=LIVE,
    )
    check_back_every_s: Decimal = setting(
        60.0, "... and how often from then on.", unit="s", ge=0.001, le=31_536_000.0, restart=LIVE
    )
    check_backs: Whole = setting(
        15, "... and how many times in all.", unit="questions", ge=0, le=1_000_000, restart=LIVE
    )
    half_deadline_s: Decimal = setting(
        3600.0,
        "When the store rolls back a half message that nobody has decided; it is counted, and listed by "
        "`phxqueue halves list --expired`. Until then the log is kept from where it lies.",
        unit="s",
        ge=0.001,
        le=31_536_000.0,
        restart=LIVE,
    )
