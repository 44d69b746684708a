"""What a client has seen of the nodes of a replica set while it looked for their master, and how to say it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from phxqueue.net.address import Address
from phxqueue.net.status import RpcError, Status


class Sight(enum.Enum):
    """What one try at one node showed."""

    NO_MASTER = "it answers, but knows no master"
    NOT_MASTER = "it answers, and names another master or none"
    UNREACHABLE = "no connection, or it broke"
    REFUSED_US = "it does not accept us, or is not who it should be"
    SILENT = "connected, but nothing at all arrives"
    SLOW = "alive, but no answer in time"
    BUSY = "it answers: overloaded"

    @property
    def reachable(self) -> bool:
        """Whether the node is alive and talks to us."""
        return self not in (Sight.UNREACHABLE, Sight.REFUSED_US, Sight.SILENT)

    @property
    def leaderless(self) -> bool:
        """Whether it says that this node is not a master who serves us."""
        return self not in (Sight.SLOW, Sight.BUSY)


@dataclass(frozen=True, slots=True)
class Observation:
    """The outcome of one try."""

    sight: Sight
    error: RpcError


Observations = Mapping[Address, Observation]


def no_master_error(
    what: str, candidates: Sequence[Address], seen: Observations, searched_s: float, *, maybe_executed: bool
) -> RpcError:
    """The error of a call that found no master: who is reachable, what each says, what to do."""
    reachable = [address for address in candidates if address in seen and seen[address].sight.reachable]
    total = len(candidates)
    missing = total // 2 + 1 - len(reachable)
    if missing > 1:
        remedy = f"start {missing} more"
    elif missing == 1:
        remedy = "start another"
    else:
        remedy = f"they have elected none for {searched_s:.1f} s: see `phxqueue status` and their logs"
    names = f" ({', '.join(map(str, reachable))})" if reachable else ""
    details = "; ".join(f"{address}: {_say(address, seen[address])}" for address in candidates if address in seen)
    text = f"no master: {len(reachable)} of {total} nodes of {what} reachable{names}; {remedy}. Seen: {details}"
    return RpcError(Status.UNAVAILABLE, text, maybe_executed=maybe_executed)


def deadline_error(
    what: str,
    method: str,
    deadline_s: float,
    candidates: Sequence[Address],
    seen: Observations,
    *,
    maybe_executed: bool,
) -> RpcError:
    """The error of a call whose time ran out although there may be a master."""
    details = "; ".join(f"{address}: {_say(address, seen[address])}" for address in candidates if address in seen)
    outcome = "it may or may not have been carried out" if maybe_executed else "it was surely not carried out"
    text = f"{what} did not answer {method} within {deadline_s:.3g} s ({outcome})"
    return RpcError(
        Status.DEADLINE_EXCEEDED, f"{text}. Seen: {details}" if details else text, maybe_executed=maybe_executed
    )


def _say(address: Address, observation: Observation) -> str:
    text = observation.error.message.removeprefix(f"{address}: ").removeprefix(f"{address} ")
    if observation.sight is Sight.NOT_MASTER and observation.error.redirect:
        return f"says the master is {observation.error.redirect}"
    return text or observation.sight.value
