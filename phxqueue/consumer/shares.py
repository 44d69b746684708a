"""This consumer's parts of the speed limits: asked of the scheduler by demand, else those of its queues.

A call waits at the scheduler all the time, and is answered when there is something to tell; when the demand changes it
is broken off for one that is answered at once. What an answer says holds for a lease, counted from when the call was
sent. After it, and for as long again, the lesser of that and the part of our queues holds (others may not have come to
the end of theirs); then that of our queues, which are the whole over all consumers. So a limit holds without a
scheduler, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.config import Topic
from phxqueue.consumer.demand import DemandMeter
from phxqueue.consumer.limits import Limit, Share
from phxqueue.consumer.speed import Speed
from phxqueue.consumer.weights import scheduler_route
from phxqueue.net.routing import Caller
from phxqueue.net.status import RpcError
from phxqueue.proto.methods import SHARES
from phxqueue.proto.scheduler_pb2 import LimitDemand, ShareRequest, ShareResponse

#: Changes of a demand that are worth a new call: as part of the limit, or of the demand.
CHANGED, CHANGED_BY = 0.01, 0.1
#: Before the first answer: how often the demand is looked at.
FIRST_PACE_S = 0.05


@dataclass(slots=True)
class _Part:
    """Of one limit.

    Attributes:
        share: what the scheduler said last.
        until: when its lease ends.
        told: what it was told that we want.
    """

    meter: DemandMeter
    share: float = 0.0
    until: float = 0.0
    told: float = 0.0


class Shares:
    """Follows the scheduler. `share` is for ConsumerService.set_share.

    Args:
        topic: its configuration; its schedulers are asked.
        consumer: this one's address.
        speed: the limits, and how they are used.
        owned: the part of a limit that follows from our queues.
    """

    log = Logger()

    def __init__(
        self, topic: Topic, consumer: str, caller: Caller, clock: IReactorTime, speed: Speed, owned: Share
    ) -> None:
        self._topic = topic
        self._consumer = consumer
        self._caller = caller
        self._clock = clock
        self._speed = speed
        self._owned = owned
        self._lease_s = topic.settings.scheduler_share_lease_ms / 1000
        self._pace_s = FIRST_PACE_S
        self._parts: dict[Limit, _Part] = {}
        self._call: Deferred[ShareResponse] | None = None
        self._waits = False  # the call is answered when there is something to tell, not at once
        self._timer: IDelayedCall | None = None
        self._silent_since: float | None = None  # one log line per change

    def start(self) -> None:
        """Begin to ask."""
        self._look()

    def stop(self) -> None:
        """Ask no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._break_off()

    def reconfigure(self, topic: Topic) -> None:
        """Ask the schedulers of a newer configuration. Times need a restart."""
        self._topic = topic

    def share(self, limit: Limit) -> float:
        """The part of a limit that we keep to now, 0 to 1."""
        part = self._part(limit)
        now = self._clock.seconds()
        if now < part.until:
            return part.share
        owned = self._owned(limit)
        return owned if now >= part.until + self._lease_s else min(part.share, owned)

    # ---- asking ------------------------------------------------------------------------

    def _look(self) -> None:
        """See how the demand is, and tell the scheduler when it has changed or no call is under way."""
        self._timer = self._clock.callLater(self._pace_s, self._look)
        speed = self._speed
        limits = speed.throttle.limits
        if not limits:
            self._parts.clear()
            self._break_off()
            return
        if len(limits) > self._topic.settings.scheduler_share_limits:
            self._break_off()
            speed.refresh()
            return
        use = speed.use()
        now = self._clock.seconds()
        wanted: dict[Limit, float] = {}
        for limit in limits:
            of, full = use[limit], limit.per_minute / 60
            wanted[limit] = min(self._part(limit).meter.wanted(now, of.taken, of.held, of.rate) / full, 1.0)
        for gone in self._parts.keys() - wanted.keys():
            del self._parts[gone]
        if any(part.until <= now for part in self._parts.values()):
            speed.refresh()  # leases that have ended come into effect
        if any(_differ(wanted[limit], self._parts[limit].told) for limit in limits):
            if self._call is None or self._waits:
                self._ask(wanted, wait=False)
        elif self._call is None:
            self._ask(wanted, wait=False)

    def _part(self, limit: Limit) -> _Part:
        part = self._parts.get(limit)
        if part is None:
            # Nothing for one lease, if the scheduler does not answer before: others may have everything for so long.
            now = self._clock.seconds()
            alone = self._silent_since is not None and now - self._silent_since >= self._lease_s
            part = self._parts[limit] = _Part(DemandMeter(now), until=now - self._lease_s if alone else now)
        return part

    def _ask(self, wanted: dict[Limit, float], *, wait: bool) -> None:
        self._break_off()
        self._waits = wait
        sent = self._clock.seconds()
        wait_ms = int(self._lease_s * 1000 / 3) if wait else 0
        request = ShareRequest(topic_id=self._topic.topic_id, consumer=self._consumer, wait_ms=wait_ms)
        for limit, part_wanted in wanted.items():
            self._parts[limit].told = part_wanted
            request.demands.append(
                LimitDemand(
                    pub_id=limit.pub_id, consumer_group_id=limit.consumer_group_id, handle_id=limit.handle_id,
                    queue_info_id=limit.queue_info_id, wanted=part_wanted, weight=self._owned(limit),
                    keeps=self.share(limit),
                )
            )  # fmt: skip
        call = self._call = self._caller.call(
            scheduler_route(self._topic), SHARES, request, self._lease_s, try_timeout_s=self._lease_s
        )
        call.addCallbacks(self._answered, self._failed, callbackArgs=(call, sent), errbackArgs=(call,))
        call.addErrback(lambda failure: self.log.failure("a defect of the consumer itself", failure))

    def _break_off(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _answered(self, response: ShareResponse, call: Deferred[ShareResponse], sent: float) -> None:
        if call is not self._call:
            return
        self._call = None
        self._heard()
        self._pace_s = max(response.pace_ms / 1000, FIRST_PACE_S)
        until = sent + response.lease_ms / 1000
        for told in response.shares:
            limit = Limit(told.pub_id, told.consumer_group_id, told.handle_id, told.queue_info_id)
            if limit in self._parts:
                part = self._parts[limit]
                part.share, part.until = told.share, until
        self._speed.refresh()
        self._ask({limit: part.told for limit, part in self._parts.items()}, wait=True)

    def _failed(self, failure: Failure, call: Deferred[ShareResponse]) -> None:
        if call is not self._call or failure.check(CancelledError):
            return
        self._call = None
        self._pace_s = max(self._pace_s, self._lease_s / 6)
        failure.trap(RpcError)
        if self._silent_since is None:
            self._silent_since = self._clock.seconds()
            self.log.warn(
                "the scheduler does not say how to share the speed limits: {reason}; each consumer keeps to the part "
                "of its queues until it does",
                reason=failure.getErrorMessage(),
            )

    def _heard(self) -> None:
        if self._silent_since is not None:
            self._silent_since = None
            self.log.info("the scheduler shares the speed limits again")


def _differ(now: float, told: float) -> bool:
    return abs(now - told) > max(CHANGED, CHANGED_BY * told)
