"""The metrics of a scheduler. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.metrics_core import Metric

from phxqueue.console.families import Families


def scheduler_families(term: int, weights: Mapping[str, int], loads: Mapping[str, float | None]) -> Iterable[Metric]:
    """What Prometheus is told.

    Args:
        term: of its mastership; 0: another scheduler is the master, and knows the rest.
        weights: in force, by consumer.
        loads: of the consumers that live, in percent; None: not known yet.
    """
    out = Families()
    out.gauge("scheduler_master", "1 on the master of the schedulers.", bool(term))
    out.gauge("scheduler_term", "Fencing token of its mastership.", term)
    out.gauge("scheduler_consumers_alive", "Consumers that report.", len(loads))
    for consumer, weight in sorted(weights.items()):
        out.gauge("scheduler_weight", "Weight of a consumer.", weight, consumer=consumer)
    for consumer, load in sorted(loads.items()):
        if load is not None:
            out.gauge("scheduler_load_ratio", "Its load, smoothed; 1: all of a core.", load / 100, consumer=consumer)
    return out.all()
