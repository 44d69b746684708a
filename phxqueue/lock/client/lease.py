"""Until when a holder may believe that it holds a lock. Pure; time is passed in, in seconds.

The server's lease begins when it grants, or renews: after the request was sent. So a lease that is counted from the
sending is over before the server's is, as long as our clock runs no slower than the server's by more than `drift`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True)
class ClientLease:
    """One lease, as its holder counts it.

    Attributes:
        length: in seconds, as the server was asked; None: it never ends by itself.
        drift: by how much, as a fraction, our clock may run slower than the server's.
        deadline: from then on the lock may be somebody else's.
    """

    length: float | None
    drift: float
    deadline: float

    @classmethod
    def granted(cls, length: float | None, drift: float, sent_at: float, waited: float) -> ClientLease:
        """A lock was granted to a request sent at `sent_at`, at least `waited` seconds after that had arrived."""
        if length is None:
            return cls(None, drift, math.inf)
        return cls(length, drift, sent_at + (waited + length) * (1.0 - drift))

    def renewed(self, sent_at: float) -> None:
        """A renewal sent at `sent_at` has succeeded."""
        if self.length is not None:
            self.deadline = max(self.deadline, sent_at + self.length * (1.0 - self.drift))

    def over(self, now: float) -> bool:
        """Whether the lock may be somebody else's."""
        return now >= self.deadline

    def remaining(self, now: float) -> float:
        """Seconds left, at least 0; infinity: it has no end."""
        return max(0.0, self.deadline - now)
