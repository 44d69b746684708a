"""The metrics of any process: who it is, its alarms, its webhook; memory, processor and files come from the library."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

import phxqueue
from phxqueue.console.alarms import Alarms
from phxqueue.console.families import Families
from phxqueue.console.webhook import Webhook


def process_families(name: str, ready: bool, alarms: Alarms, webhook: Webhook | None) -> Iterable[Metric]:
    """What every role tells.

    Args:
        name: of the role: "store 1 node 0".
    """
    out = Families()
    out.gauge("info", "1; the labels say which process of which version this is.", 1, role=name, version=_VERSION)
    out.gauge("ready", "1 while it serves.", ready)
    for standing in alarms.standing.values():
        alarm = standing.alarm
        subject = dict(alarm.subject)
        labels = {label: subject.get(label, "") for label in _SUBJECT}
        out.gauge(
            "alarm",
            "1 for every alarm that stands.",
            1,
            kind=alarm.kind,
            **labels,
            pub=alarm.labels.get("pub", ""),
        )
    for kind, times in sorted(alarms.raised.items()):
        out.count("alarms_raised", "How often alarms were raised, repetitions included.", times, kind=kind)
    out.count("alarms_left_out", "Alarms that found no room (admin.max_alarms).", alarms.left_out)
    if webhook is not None:
        out.count("webhook_alarms_posted", "Alarms that the webhook took.", webhook.posted)
        out.count("webhook_alarms_failed", "Alarms whose posts were given up.", webhook.failed)
    return out.all()


#: All alarms have the same labels, as Prometheus wants it.
_SUBJECT = ("store", "queue", "group")
_VERSION = phxqueue.__version__
