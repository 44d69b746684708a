"""The weights of a topic's consumers: from the scheduler as long as it answers, else those it gave last.

A report every `interval_s` tells the scheduler that this consumer lives, and its load; the answer has the weights when
they have changed. A scheduler that does not answer changes nothing: only one that has never answered since this process
began leaves the weights to the configuration, after `patience_s`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.config import Topic
from phxqueue.net.address import Address
from phxqueue.net.routing import Caller, Route
from phxqueue.net.status import RpcError
from phxqueue.proto.methods import REPORT
from phxqueue.proto.scheduler_pb2 import ReportRequest, ReportResponse


@dataclass(frozen=True, slots=True)
class Usage:
    """How busy this process has been since it was last asked, and how much there is to do.

    Attributes:
        cpu: percent of one core.
        slots: handler slots in use, percent.
        queues: it reads so many.
        backlog: items of them that are not finished, as far as it knows.
    """

    cpu: float
    slots: float
    queues: int = 0
    backlog: int = 0


def scheduler_route(topic: Topic) -> Route:
    """Whom to ask about weights."""
    return Route(
        key=f"scheduler:{topic.topic_id}",
        candidates=tuple(Address(node.ip, node.port) for node in topic.scheduler),
        what="the scheduler",
    )


class Weights:
    """Follows the scheduler.

    Args:
        topic: its configuration; its schedulers are asked.
        consumer: this one's address.
        usage: asked before each report.
        on_change: called when `current` or `known` has changed.

    Attributes:
        known: whether `current` may be used: the scheduler has answered, or is not waited for any more.
        current: weight by address of the consumer; None: those of the configuration.
    """

    log = Logger()

    def __init__(
        self,
        topic: Topic,
        consumer: str,
        caller: Caller,
        clock: IReactorTime,
        usage: Callable[[], Usage],
        on_change: Callable[[], None],
        *,
        patience_s: float,
    ) -> None:
        self.known = False
        self.current: Mapping[str, int] | None = None
        self._topic = topic
        self._consumer = consumer
        self._caller = caller
        self._clock = clock
        self._usage = usage
        self._on_change = on_change
        self._patience_s = patience_s
        self._interval_s = float(topic.settings.scheduler_get_scale_interval_s)
        self._term = self._version = 0
        self._silent = False  # one log line per change
        self._heard = False  # the last report was answered
        self._timer: IDelayedCall | None = None
        self._impatience: IDelayedCall | None = None
        self._call: Deferred[ReportResponse] | None = None
        self._stopped = False

    def start(self) -> None:
        """Begin to report."""
        self._impatience = self._clock.callLater(self._patience_s, self._give_up_waiting)
        self._report()

    def stop(self) -> Deferred[None]:
        """Report no more and say good-bye, so that the queues need not wait for our silence to be noticed."""
        self._stopped = True
        for timer in (self._timer, self._impatience):
            if timer is not None and timer.active():
                timer.cancel()
        if self._call is not None:
            self._call.cancel()
        if not self._version:
            return succeed(None)  # no scheduler knows us
        bye = self._caller.call(scheduler_route(self._topic), REPORT, self._request(leaving=True), self._interval_s)
        return bye.addCallbacks(lambda _: None, self._not_heard)

    def reconfigure(self, topic: Topic) -> None:
        """Ask the schedulers of a newer configuration. Times need a restart."""
        self._topic = topic

    def _request(self, *, leaving: bool = False) -> ReportRequest:
        request = ReportRequest(topic_id=self._topic.topic_id, consumer=self._consumer, leaving=leaving)
        if not leaving:
            usage = self._usage()
            request.cpu, request.slots = usage.cpu, usage.slots
            request.queues, request.backlog = usage.queues, usage.backlog
            request.weight = (self.current or {}).get(self._consumer, 0)
            request.term, request.version = self._term, self._version
        return request

    def _report(self) -> None:
        self._timer = self._clock.callLater(self._interval_s, self._report)
        if self._call is not None:
            return  # the one before has no answer yet
        # A report that is late is worth nothing: the next one says more.
        self._call = self._caller.call(
            scheduler_route(self._topic), REPORT, self._request(), 2 * self._interval_s, try_timeout_s=self._interval_s
        )
        self._call.addCallbacks(self._answered, self._failed).addErrback(self._bug)

    def _answered(self, response: ReportResponse) -> None:
        self._call = None
        self._heard = True
        if self._silent:
            self._silent = False
            self.log.info("the scheduler answers again")
        if not response.version or (response.term, response.version) == (self._term, self._version):
            return
        self._term, self._version = response.term, response.version
        weights = {one.consumer: one.weight for one in response.weights}
        changed = weights != self.current or not self.known
        self.current, self.known = weights, True
        if changed:
            self._on_change()

    def _failed(self, failure: Failure) -> None:
        self._call = None
        if self._stopped:
            return
        failure.trap(RpcError)
        self._heard = False
        if not self._silent:
            self._silent = True
            self.log.warn(
                "the scheduler does not answer: {reason}; {meanwhile}",
                reason=failure.getErrorMessage(),
                meanwhile="the weights stay as they are" if self.known else "there are no weights yet; asking on",
            )

    def _give_up_waiting(self) -> None:
        if not self.known:
            self.known = True
            # A new master listens to the consumers before it says anything: that is no fault of its.
            say, why = (
                (self.log.info, "the scheduler has no weights yet, after")
                if self._heard
                else (self.log.warn, "no scheduler has answered for")
            )
            say(
                "{why} {seconds:g} s: the weights of consumerconfig.conf hold until it gives some",
                why=why,
                seconds=self._patience_s,
            )
            self._on_change()

    def _not_heard(self, failure: Failure) -> None:
        failure.trap(RpcError)
        self.log.info("the scheduler was not told good-bye: {reason}", reason=failure.getErrorMessage())

    def _bug(self, failure: Failure) -> None:
        self.log.failure("a defect of the consumer itself, while it reported", failure)
