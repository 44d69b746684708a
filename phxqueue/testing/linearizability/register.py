"""A register: read, write, compare-and-swap by value. The initial value is None; a deleted value is None again.

========== =========================== ==================
operation  arguments                   result
========== =========================== ==================
``read``                               ``value``
``write``  ``value``
``cas``    ``expected``, ``value``     ``swapped``: bool
========== =========================== ==================
"""

from __future__ import annotations

from phxqueue.testing.linearizability.history import HistoryError, Operation

Value = str | int | None
State = tuple[Value]
"""A tuple, because None is a value here and "impossible" for the search."""


class Register:
    """The model."""

    def initial(self) -> State:
        """Nothing has been written."""
        return (None,)

    def step(self, state: State, operation: Operation) -> State | None:
        """See the table above."""
        arguments, result = operation.arguments, operation.result
        if operation.name == "read":
            return state if result is None or result["value"] == state[0] else None
        if operation.name == "write":
            return (arguments["value"],)
        if operation.name == "cas":
            matches = state[0] == arguments["expected"]
            if result is not None and result["swapped"] != matches:
                return None
            return (arguments["value"],) if matches else state
        raise HistoryError(f"a register has no operation {operation.name!r}")
