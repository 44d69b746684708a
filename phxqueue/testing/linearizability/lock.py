"""A lock as the lock service has it: one holder, a version that rises with every acquisition, and leases that may end.

A client id stands for one acquisition; nobody uses it for another.

=========== ========================== ==========================================================================
operation   arguments                  result
=========== ========================== ==========================================================================
``acquire`` ``client_id``              ``version``; or ``holder`` and ``version`` of somebody else: not acquired
``renew``   ``client_id``, ``version`` ``held``: whether it was still held so
``release`` ``client_id``, ``version`` ``released``: True; False: it was not held so; None: it is held no longer
``read``                               ``holder`` and ``version``; "" and 0: nobody holds it
``expire``  ``client_id``              none: its lease may end from the call on, at any time or never
=========== ========================== ==========================================================================

The recorder adds an ``expire`` for every acquisition that was not surely given back, called when its lease could run
out at the earliest: so a lease that ends too early has no place in any order. An acquisition whose outcome was lost is
left out when nobody ever saw it, and else required with the version that was seen.
"""

from __future__ import annotations

from dataclasses import dataclass

from phxqueue.testing.linearizability.history import HistoryError, Operation


@dataclass(frozen=True, slots=True)
class State:
    """Who holds the lock ("": nobody) under which version (0: nobody); `above`: the highest version given so far."""

    holder: str = ""
    version: int = 0
    above: int = 0


class Lock:
    """The model."""

    def initial(self) -> State:
        """Nobody has ever held it."""
        return State()

    def step(self, state: State, operation: Operation) -> State | None:
        """See the table above."""
        arguments, result = operation.arguments, operation.result
        if operation.name == "expire":
            return _free(state) if state.holder == arguments["client_id"] else None
        if operation.name == "release" and (result is None or result["released"] is None):
            return _free(state) if _holds(state, operation) else state
        if result is None:
            return state
        if operation.name == "acquire" and "holder" not in result:
            version: int = result["version"]
            return (
                State(arguments["client_id"], version, version) if not state.holder and version > state.above else None
            )
        if operation.name in ("acquire", "read"):
            return state if (result["holder"], result["version"]) == (state.holder, state.version) else None
        if operation.name == "renew":
            return state if result["held"] == _holds(state, operation) else None
        if operation.name == "release":
            if result["released"] != _holds(state, operation):
                return None
            return _free(state) if result["released"] else state
        raise HistoryError(f"a lock has no operation {operation.name!r}")


def _free(state: State) -> State:
    return State("", 0, state.above)


def _holds(state: State, operation: Operation) -> bool:
    return (state.holder, state.version) == (operation.arguments["client_id"], operation.arguments["version"])
