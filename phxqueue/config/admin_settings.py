"""`admin:` of a node's file: the port on which the node is observed, and the alarms it raises."""

from __future__ import annotations

from phxqueue.config.fields import Decimal, Host, Text, Whole, setting
from phxqueue.config.schema import Block


class AdminSettings(Block):
    """`admin:` of a node's file: where it is observed, and how alarms are told."""

    ip: Host = setting(
        "127.0.0.1",
        "Where the admin port listens. Plain HTTP on a loopback address; elsewhere TLS, for clients with a certificate "
        "of the cluster's authority.",
    )
    port: Whole = setting(0, "The admin port: metrics, health, events; 0: there is none.", ge=0, le=65535)
    max_connections: Whole = setting(
        64, "Connections to it at the same time; more are closed at once.", unit="connections", ge=1, le=10_000
    )
    idle_timeout_s: Decimal = setting(
        60.0, "A connection that says nothing for so long is closed.", unit="s", ge=0.1, le=3600.0
    )
    recent_events: Whole = setting(
        1000, "Events kept for `/events`; the oldest go first.", unit="events", ge=1, le=1_000_000
    )
    max_alarms: Whole = setting(
        1000, "Alarms that stand at the same time; more are only counted.", unit="alarms", ge=1, le=100_000
    )
    alarm_repeat_s: Decimal = setting(
        60.0,
        "An alarm that comes again and again is logged and told no more often than this; each time with the count.",
        unit="s",
        ge=0.0,
        le=86_400.0,
    )
    alarm_hold_s: Decimal = setting(
        3600.0,
        "An alarm about something that nothing later can mend stands this long after it came the last time, unless it "
        "is cleared before.",
        unit="s",
        ge=0.0,
        le=31_536_000.0,
    )
    webhook_url: Text = setting("", "Where alarms are posted to as JSON (http:// or https://).", default_text="nowhere")
    webhook_interval_s: Decimal = setting(
        10.0,
        "Shortest time between two posts: what comes meanwhile travels together. The first alarm does not wait.",
        unit="s",
        ge=0.0,
        le=3600.0,
    )
    webhook_alarms: Whole = setting(
        100, "Most alarms in one post; how many more there are, it says.", unit="alarms", ge=1, le=10_000
    )
    webhook_timeout_s: Decimal = setting(5.0, "Longest one post takes.", unit="s", ge=0.01, le=600.0)
    webhook_attempts: Whole = setting(
        5, "How often a post is tried before it is given up.", unit="attempts", ge=1, le=1000
    )
    webhook_backoff_s: Decimal = setting(
        1.0, "Pause before the second attempt; it doubles from then on.", unit="s", ge=0.01, le=600.0
    )
    webhook_backoff_max_s: Decimal = setting(60.0, "Longest such pause.", unit="s", ge=0.01, le=3600.0)
