"""A register whose writes get rising versions, as the lock service's strings and locks do.

A version is chosen by the server, above every earlier one of that key; a key that does not exist has version 0 and
value None. A compare-and-swap names the version it expects.

========== ===================================== ===========================================
operation  arguments                             result
========== ===================================== ===========================================
``read``                                         ``value``, ``version``
``write``  ``value``                             ``version``
``cas``    ``expected`` (a version), ``value``   ``version``, or ``version`` None: mismatch
========== ===================================== ===========================================

A write of ``None`` deletes: the version read afterwards is 0, and the next one is above every earlier one all the same.

The version of a write whose answer was lost is known from the next answer that names it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from phxqueue.testing.linearizability.history import HistoryError, Operation
from phxqueue.testing.linearizability.register import Value


@dataclass(frozen=True, slots=True)
class State:
    """What the register holds.

    version: of its value; 0: there is none; None: not known yet, but above `above`.
    above: the highest version that is known to have been given (not counting an unknown one).
    """

    value: Value = None
    version: int | None = 0
    above: int = 0


class VersionedRegister:
    """The model."""

    def initial(self) -> State:
        """Nothing has been written."""
        return State()

    def step(self, state: State, operation: Operation) -> State | None:
        """See the table above."""
        arguments, result = operation.arguments, operation.result
        if operation.name == "read":
            return state if result is None else _pin(state, result["value"], result["version"])
        if operation.name == "write":
            return _write(state, arguments["value"], None if result is None else result["version"])
        if operation.name == "cas":
            if result is not None and result["version"] is None:
                return state if state.version != arguments["expected"] else None
            matching = _pin(state, state.value, arguments["expected"])
            if matching is None:
                return state if result is None else None
            return _write(matching, arguments["value"], None if result is None else result["version"])
        raise HistoryError(f"a versioned register has no operation {operation.name!r}")


def _pin(state: State, value: Value, version: int) -> State | None:
    """Somebody saw this value at this version."""
    if value != state.value:
        return None
    if state.version is None:
        return replace(state, version=version, above=version) if version > state.above else None
    return state if version == state.version else None


def _write(state: State, value: Value, version: int | None) -> State | None:
    """A value is written and given a version, or one that nobody was told of."""
    if value is None:
        above = state.above if version is None else max(state.above, version)
        return State(None, 0, above)
    if version is None:
        return State(value, None, state.above)
    return State(value, version, version) if version > state.above else None
