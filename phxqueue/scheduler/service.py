"""Answers the consumers while this process is the master of the schedulers: their reports, and who asks for shares.

The roll begins anew with every mastership: what a former one knew may be old. Nothing of it is worth keeping, because
everybody who lives reports within a second or two, and tells the weight that is in force.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from phxqueue.config import Topic
from phxqueue.net.identity import Role
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.scheduler_pb2 import (
    ConsumerWeight,
    ReportRequest,
    ReportResponse,
    SchedulerStatusRequest,
    SchedulerStatusResponse,
    ShareRequest,
    ShareResponse,
)
from phxqueue.scheduler.load import Report
from phxqueue.scheduler.roll import Roll, RollRule, UnknownConsumer
from phxqueue.scheduler.share_desk import ShareDesk

#: More than any machine has: a thousand cores.
_MOST_PERCENT = 100_000.0
_NOT_MASTER = "this scheduler is not the master; ask the others of schedulerconfig.conf"


class SchedulerService:
    """The consumers of one topic.

    Args:
        topic: its configuration.
        rule: when consumers die and weights move.
        clock: the reactor.
        consumer_of: the certificate name of a consumer by its address, or None when TLS is off.
    """

    log = Logger(namespace="phxqueue.scheduler")

    def __init__(
        self, topic: Topic, rule: RollRule, clock: IReactorTime, *, consumer_of: Callable[[str], str] | None = None
    ) -> None:
        self._topic = topic
        self._rule = rule
        self._clock = clock
        self._consumer_of = consumer_of
        self._term = 0
        self._started_at = self._began_at = clock.seconds()
        self._roll: Roll | None = None
        self._desk: ShareDesk | None = None
        self._said = 0  # version of the weights that were logged
        self._timer: IDelayedCall | None = None

    @property
    def term(self) -> int:
        """The fencing token of this mastership; 0: another one is the master."""
        return self._term if self._roll is not None else 0

    def register(self, service: RpcService) -> None:
        """Answer the scheduler's calls on this port."""
        service.register(methods.REPORT, self.report)
        service.register(methods.SHARES, self.shares)
        service.register(methods.SCHEDULER_STATUS, self.status)

    def begin(self, term: int) -> None:
        """Mastership begins. `term` must be higher than that of every mastership before (a fencing token is)."""
        self._term = term
        self._began_at = self._clock.seconds()
        self._said = 0
        self._roll = Roll(self._scales(), self._rule, self._clock.seconds())
        settings = self._topic.settings
        self._desk = ShareDesk(
            self._clock,
            settings.scheduler_share_lease_ms / 1000,
            settings.scheduler_share_limits,
            len(self._topic.consumers),
        )
        self.log.info(
            "this scheduler is the master (term {term}); weights follow when the consumers have reported", term=term
        )
        self._look_later()

    def end(self) -> None:
        """Mastership is over: reports are refused."""
        if self._roll is not None:
            self.log.info("this scheduler is the master no more (term {term})", term=self._term)
        self._roll = None
        if self._desk is not None:
            self._desk.close()
            self._desk = None
        self._look_later()

    def reconfigure(self, topic: Topic) -> None:
        """Follow the configuration; which consumers there are and their scales. Times need a restart."""
        self._topic = topic
        if self._roll is not None:
            self._roll.reconfigure(self._scales())
            self._look_later()
        if self._desk is not None:
            self._desk.consumers = len(topic.consumers)

    def weights(self) -> dict[str, int]:
        """The weights in force; empty while there are none, or another scheduler has them."""
        return {} if self._roll is None else self._roll.weights()

    def loads(self) -> dict[str, float | None]:
        """The load of every consumer that lives, in percent."""
        return {} if self._roll is None else self._roll.loads()

    # ---- the calls ---------------------------------------------------------------------

    def report(self, request: ReportRequest, context: CallContext) -> ReportResponse:
        """Take a report in and answer the weights.

        Raises RpcError: NOT_MASTER, INVALID_ARGUMENT (another topic, an unknown consumer), PERMISSION_DENIED.
        """
        roll = self._roll
        if roll is None:
            raise RpcError(Status.NOT_MASTER, _NOT_MASTER)
        self._check(request.topic_id, request.consumer, context)
        for field, number in (("cpu", request.cpu), ("slots", request.slots)):
            if not 0.0 <= number < _MOST_PERCENT:
                raise RpcError(Status.INVALID_ARGUMENT, f"{field}: {number} is no load in percent")
        now = self._clock.seconds()
        try:
            if request.leaving:
                roll.leave(request.consumer, now)
            else:
                roll.report(request.consumer, _report(request), now)
        except UnknownConsumer as error:
            raise RpcError(Status.INVALID_ARGUMENT, f"consumer: {error}") from error
        self._look()
        return self._answer(roll, request)

    def shares(self, request: ShareRequest, context: CallContext) -> Deferred[ShareResponse]:
        """Say what parts of the speed limits a consumer has, when it should know or has waited long enough.

        Raises RpcError: as `report`.
        """
        if self._roll is None or self._desk is None:
            raise RpcError(Status.NOT_MASTER, _NOT_MASTER)
        self._check(request.topic_id, request.consumer, context)
        if request.consumer not in self._scales():
            raise RpcError(Status.INVALID_ARGUMENT, f"consumer: {UnknownConsumer(request.consumer)}")
        for demand in request.demands:
            if not all(0.0 <= part <= 1.0 for part in (demand.wanted, demand.weight, demand.keeps)):
                raise RpcError(Status.INVALID_ARGUMENT, f"demands: {demand!s} has a part that is not from 0 to 1")
        return self._desk.ask(request)

    def status(self, request: SchedulerStatusRequest, context: CallContext) -> SchedulerStatusResponse:
        """How this scheduler sees the consumers. Raises RpcError: INVALID_ARGUMENT (another topic)."""
        self._check_topic(request.topic_id)
        now = self._clock.seconds()
        answer = SchedulerStatusResponse(is_master=self._roll is not None, uptime_s=now - self._started_at)
        if self._roll is None or self._desk is None:
            return answer
        answer.term, answer.version, answer.master_s = self._term, self._roll.version, now - self._began_at
        answer.limits = len(self._desk.shares())
        for row in self._roll.rows(now):
            shown = answer.consumers.add(consumer=row.name, scale=row.scale, weight=row.weight, alive=row.alive)
            if row.load is not None:
                shown.load = row.load
            if row.last is not None:
                shown.slots, shown.queues, shown.backlog = row.last.slots, row.last.queues, row.last.backlog
                shown.silent_s = row.silent_s
        return answer

    def _answer(self, roll: Roll, request: ReportRequest) -> ReportResponse:
        response = ReportResponse(term=self._term, version=roll.version)
        if (request.term, request.version) != (self._term, roll.version):
            response.weights.extend(
                ConsumerWeight(consumer=name, weight=weight) for name, weight in sorted(roll.weights().items())
            )
        return response

    def _check(self, topic_id: int, consumer: str, context: CallContext) -> None:
        """A consumer speaks for itself only: another's good-bye would take its queues away. Raises RpcError."""
        self._check_topic(topic_id)
        if self._consumer_of is None:
            return
        peer, name = context.peer, self._consumer_of(consumer)
        if peer.role is not Role.CONSUMER or peer.name != name:
            raise RpcError(
                Status.PERMISSION_DENIED, f"{peer} reports for consumer {consumer}, which is consumer/{name}"
            )

    def _check_topic(self, topic_id: int) -> None:
        if topic_id != self._topic.topic_id:
            raise RpcError(
                Status.INVALID_ARGUMENT,
                f"topic_id: this scheduler is of topic {self._topic.topic_id}, the request says {topic_id}",
            )

    # ---- time --------------------------------------------------------------------------

    def _look(self) -> None:
        """Let time pass for the roll, log what has changed, come back when something is due."""
        roll = self._roll
        if roll is not None:
            roll.advance(self._clock.seconds())
            if roll.version != self._said:
                self._said = roll.version
                self._log_weights(roll)
        self._look_later()

    def _look_later(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        deadline = None if self._roll is None else self._roll.next_deadline()
        if deadline is not None:
            self._timer = self._clock.callLater(max(deadline - self._clock.seconds(), 0.0), self._look)

    def _log_weights(self, roll: Roll) -> None:
        weights = roll.weights()
        gone = sorted(set(weights) - set(roll.loads()))
        self.log.info(
            "weights {version} of term {term}: {count} consumers live{gone}",
            version=roll.version,
            term=self._term,
            count=len(weights) - len(gone),
            gone=f", not heard: {', '.join(gone)}" if gone else "",
            weights=weights,
        )

    def _scales(self) -> dict[str, int]:
        return {consumer.address: consumer.scale for consumer in self._topic.consumers}


def _report(request: ReportRequest) -> Report:
    return Report(
        cpu=request.cpu,
        slots=request.slots,
        weight=request.weight,
        queues=request.queues,
        backlog=request.backlog,
    )
