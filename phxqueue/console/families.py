"""Building metrics one value at a time. Pure.

Names begin with ``phxqueue_``, end in their unit (seconds, bytes, items) or in ``_total`` for what only counts up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

PREFIX = "phxqueue_"


class Families:
    """Collects values under their metrics, each named and explained once.

    Args:
        common: labels that every value has, by name.
    """

    def __init__(self, **common: object) -> None:
        self._common = {name: str(value) for name, value in common.items()}
        self._found: dict[str, Metric] = {}

    def gauge(self, name: str, meaning: str, value: float, **labels: object) -> None:
        """A value that goes up and down."""
        self._add(GaugeMetricFamily, name, meaning, value, labels)

    def count(self, name: str, meaning: str, value: float, **labels: object) -> None:
        """A value that only goes up; Prometheus appends ``_total``."""
        self._add(CounterMetricFamily, name, meaning, value, labels)

    def histogram(
        self, name: str, meaning: str, bounds: Sequence[float], counts: Sequence[int], total: float, **labels: object
    ) -> None:
        """A distribution: `counts` within each bound and not within the one before; the last one has no bound."""
        values = self._labels(labels)
        family = self._found.get(name)
        if family is None:
            family = self._found[name] = HistogramMetricFamily(PREFIX + name, meaning, labels=list(values))
        assert isinstance(family, HistogramMetricFamily)
        buckets, so_far = [], 0
        for bound, within in zip([*map(str, bounds), "+Inf"], counts, strict=True):
            so_far += within
            buckets.append((bound, float(so_far)))
        family.add_metric(list(values.values()), buckets, total)

    def all(self) -> Iterable[Metric]:
        """Everything collected."""
        return self._found.values()

    def _labels(self, labels: dict[str, object]) -> dict[str, str]:
        return {**self._common, **{name: str(value) for name, value in labels.items()}}

    def _add(
        self,
        kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
        name: str,
        meaning: str,
        value: float,
        labels: dict[str, object],
    ) -> None:
        values = self._labels(labels)
        family = self._found.get(name)
        if family is None:
            family = self._found[name] = kind(PREFIX + name, meaning, labels=list(values))
        assert isinstance(family, kind), f"{name} is two kinds of metric"
        family.add_metric(list(values.values()), float(value))
