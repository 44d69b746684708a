"""Who believes to hold a lock, and until when: never two at once."""

from __future__ import annotations

from dataclasses import dataclass

from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.world import World


@dataclass(slots=True)
class _Belief:
    """`until`: true time at which the client, by its own clock, stops believing."""

    token: int
    until: float


class Exclusion:
    """What clients believe, by lock; and the tokens they were given."""

    def __init__(self, world: World) -> None:
        self.granted = 0
        self._world = world
        self._beliefs: dict[str, dict[str, _Belief]] = {}
        self._tokens: dict[tuple[str, int], str] = {}
        self._highest: dict[str, int] = {}

    def highest_token(self, name: str) -> int:
        """The highest token of a lock that anybody has been told."""
        return self._highest.get(name, 0)

    def holds(self, name: str, client_id: str, token: int, floor: int, until: float) -> None:
        """A client was told that it holds a lock; `floor`: the highest token when it asked for it first."""
        owner = self._tokens.setdefault((name, token), client_id)
        if owner != client_id:
            raise Violation(f"lock {name!r}: token {token} was given to {owner} and to {client_id}")
        if token <= floor:
            raise Violation(f"lock {name!r}: {client_id} got token {token}, and {floor} was out before it asked")
        self._highest[name] = max(token, self._highest.get(name, 0))
        beliefs, now = self._beliefs.setdefault(name, {}), self._world.now
        for other, belief in beliefs.items():
            if other != client_id and belief.until > now and until > now:
                raise Violation(
                    f"lock {name!r}: {client_id} (token {token}) holds it at {now:.4f}, and {other} (token "
                    f"{belief.token}) believes so until {belief.until:.4f}"
                )
        self.granted += client_id not in beliefs
        beliefs[client_id] = _Belief(token, until)

    def lets_go(self, name: str, client_id: str) -> None:
        """A client does not use the lock any more."""
        beliefs = self._beliefs.get(name, {})
        if client_id in beliefs:
            beliefs[client_id].until = 0.0
