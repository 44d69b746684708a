"""What an acknowledgement claims: how much was finished, and the sum of its digests. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from phxqueue.proto.digest import MASK64, MOST_DROPPED, Claim
from phxqueue.proto.store_pb2 import GetRequest


@dataclass(frozen=True, slots=True)
class Ack:
    """Everything below `stop` is finished, as these claims say of what is not known to be durable yet."""

    stop: int
    claims: tuple[Claim, ...]

    def write(self, request: GetRequest) -> None:
        """Make it part of a request."""
        request.prev_cursor = self.stop
        for claim in self.claims:
            told = request.claims.add(
                start=claim.start,
                stop=claim.stop,
                count=claim.count,
                digest_sum=claim.digest_sum,
                unreadable=claim.unreadable,
            )
            told.retried, told.dead, told.expired = claim.passed
            for first, stop in claim.dropped:
                told.dropped.add(first=first, count=stop - first)


class Claims:
    """What was acknowledged and may still be lost with the store's master: the next acknowledgement says it again.

    Without a gap, oldest first; at most MOST of them, of more the oldest are added up. Of more than MOST_DROPPED
    stretches of dropped items those that do not fit count as finished: so many wait to become durable only when nothing
    does, and then no acknowledgement is taken for long either.
    """

    MOST = 64
    MOST_DROPPED = MOST_DROPPED

    def __init__(self) -> None:
        self._claims: deque[Claim] = deque()

    def add(self, claim: Claim) -> None:
        """A stretch that follows the last one."""
        claims = self._claims
        if claim.dropped:
            room = self.MOST_DROPPED - sum(len(one.dropped) for one in claims)
            claim = replace(claim, dropped=claim.dropped[: max(0, room)])
        claims.append(claim)
        if len(claims) > self.MOST:
            one, two = claims.popleft(), claims.popleft()
            retried, dead, expired = (a + b for a, b in zip(one.passed, two.passed, strict=True))
            claims.appendleft(
                Claim(
                    one.start,
                    two.stop,
                    one.count + two.count,
                    (one.digest_sum + two.digest_sum) & MASK64,
                    one.dropped + two.dropped,
                    one.unreadable + two.unreadable,
                    passed=(retried, dead, expired),
                )
            )

    def settle(self, durable: int) -> None:
        """The store will never forget what lies below this cursor."""
        while self._claims and self._claims[0].stop <= durable:
            self._claims.popleft()

    def clear(self) -> None:
        """The group stands elsewhere now: what was claimed here is nobody's business any more."""
        self._claims.clear()

    def ack(self) -> Ack | None:
        """All of them."""
        return Ack(self._claims[-1].stop, tuple(self._claims)) if self._claims else None
