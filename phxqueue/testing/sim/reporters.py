"""Producers' reports to the ledgers: what was confirmed to one process, until the ledger has taken it in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from phxqueue.net.status import RpcError
from phxqueue.producer.confirmed import Confirmed, Known
from phxqueue.proto.item_pb2 import ItemBatch
from phxqueue.proto.ledger_pb2 import ReportProducedRequest, ReportProducedResponse
from phxqueue.proto.methods import REPORT_PRODUCED
from phxqueue.proto.store_pb2 import AddResult
from phxqueue.testing.sim.calls import Answer, Caller
from phxqueue.testing.sim.checkers.book_keeping import BookKeeping
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.workload import STORE_ID, TOPIC_ID

INTERVAL = 0.3
"""Seconds between reports: a simulated minute would be longer than a run."""
MOST_ROWS = 1000


class Reporter:
    """One producer process, which vouches for what is `known` to it; `dead`: it reports nothing any more."""

    def __init__(self, cluster: Cluster, keeping: BookKeeping, producer_id: int, known: Callable[[], Known]) -> None:
        self.dead = False
        self._cluster = cluster
        self._keeping = keeping
        self._known = known
        self.producer_id = self._producer_id = producer_id
        self._groups: dict[int, Confirmed] = {}
        self._callers: dict[int, Caller] = {}
        self._busy: set[int] = set()
        self._planned = False

    @property
    def done(self) -> bool:
        """Whether everything that was confirmed is in the ledgers."""
        return self.dead or all(sums.is_empty(Known()) for sums in self._groups.values())

    def confirmed(self, batches: Sequence[ItemBatch], results: Sequence[AddResult]) -> None:
        """A request was answered."""
        for batch, result in zip(batches, results, strict=True):
            header = batch.header
            if not result.timestamp_ms:
                continue
            group_id = header.queue_id % self._cluster.shape.paxos_groups
            sums = self._groups.setdefault(group_id, Confirmed(self._producer_id, MOST_ROWS))
            sums.add(header, result.timestamp_ms, duplicate=result.duplicate)
            self._keeping.confirmed(self._producer_id, group_id, header, duplicate=result.duplicate)
        if not self._planned:
            self._planned = True
            self._cluster.world.call_later(INTERVAL, self._report)

    def _report(self) -> None:
        self._planned = False
        if self.dead:
            return
        for group_id, sums in self._groups.items():
            report = sums.report(self._known())
            if report is None or group_id in self._busy:
                continue
            self._busy.add(group_id)
            request = ReportProducedRequest(topic_id=TOPIC_ID, store_id=STORE_ID, group_id=group_id, report=report)
            self._call(group_id, sums, request)

    def _call(self, group_id: int, sums: Confirmed, request: ReportProducedRequest) -> None:
        def answered(result: Answer) -> None:
            self._busy.discard(group_id)
            if isinstance(result, ReportProducedResponse):
                sums.settled()
            elif not isinstance(result, RpcError | None):
                raise TypeError(f"a report was answered {result!r}")
            if not sums.is_empty(self._known()) and not self._planned:
                self._planned = True
                self._cluster.world.call_later(INTERVAL, self._report)

        self._callers.setdefault(group_id, Caller(self._cluster)).call(REPORT_PRODUCED, request, answered)
