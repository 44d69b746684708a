"""The metrics of any process: who it is, its alarms, its webhook; memory, processor and files come from the library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

import phxqueue
from phxqueue.console.alarms import Alarm, Alarms
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
    standing = Counter(_labels(one.alarm) for one in alarms.standing.values())
    for values, times in standing.items():
        out.gauge("alarm", "Alarms that stand.", times, **dict(zip(_LABELS, values, strict=True)))
    for kind, times in sorted(alarms.raised.items()):
        out.count("alarms_raised", "How often alarms were raised, repetitions included.", times, kind=kind)
    out.count("alarms_left_out", "Alarms that found no room (admin.max_alarms).", alarms.left_out)
    if webhook is not None:
        out.count("webhook_alarms_posted", "Alarms that the webhook took.", webhook.posted)
        out.count("webhook_alarms_failed", "Alarms whose posts were given up.", webhook.failed)
    return out.all()


def _labels(alarm: Alarm) -> tuple[str, ...]:
    """All alarms have the same labels, as Prometheus wants it; several of them may be alike in all."""
    known = {**dict(alarm.subject), **alarm.labels, "kind": alarm.kind}
    return tuple(str(known.get(label, "")) for label in _LABELS)


_LABELS = ("kind", "store", "queue", "group", "pub")
_VERSION = phxqueue.__version__
