"""Histories of operations: what is recorded of each, the file they are kept in, and who records them.

The file holds one JSON object per line, in any order::

    {"object": "cursor", "key": "1/3/7", "client": "consumer 2", "name": "ack", "arguments": {"position": 40},
     "call": 12.034, "return": 12.041, "result": {}}

- `object`: the model it belongs to (``register``, ``versioned-register``, ``queue-end``, ``cursor``, ``lock``), `key`:
  which object of that kind. Objects are independent of each other.
- `client`: who did it, for people to read.
- `call`, `return`: seconds, on one clock for the whole history (of one machine: ``time.monotonic()`` in every process).
- an operation that was answered has a `result`.
- an operation whose outcome is unknown (a time-out, a broken connection, a client that died) has ``"return": null,
  "result": null``: it may take effect at any time after its call, or never.
- one of which it is known from elsewhere *that* it took effect, and how, but not when (its item was found in the queue
  later), has ``"return": null`` and a `result`.
- one that surely did not take effect is left out.

Retries of one request under one idempotence key are one operation: called when it was first sent, returned with the
first answer that told its outcome.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


class HistoryError(ValueError):
    """A line of a history file is not an operation; the message says which line and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of one client; see the format above. `returned` is None when nobody knows when it ended."""

    object: str
    key: str
    client: str
    name: str
    arguments: Mapping[str, Any]
    call: float
    returned: float | None
    result: Mapping[str, Any] | None

    @property
    def required(self) -> bool:
        """Whether it surely took effect."""
        return self.result is not None

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        end = "..." if self.returned is None else f"{self.returned:.6f}"
        result = "?" if self.result is None else ", ".join(f"{name}={value!r}" for name, value in self.result.items())
        return f"[{self.call:.6f} to {end}] {self.client}: {self.name}({arguments}) -> {result or 'done'}"


def read_history(lines: Iterable[str]) -> Iterator[Operation]:
    """Yield the operations of a history file. Raises HistoryError for a line that is none."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _decode(number, line)


def write_history(operations: Iterable[Operation]) -> Iterator[str]:
    """Yield the lines of a history file, without line ends."""
    for operation in operations:
        yield json.dumps(
            {
                "object": operation.object,
                "key": operation.key,
                "client": operation.client,
                "name": operation.name,
                "arguments": dict(operation.arguments),
                "call": operation.call,
                "return": operation.returned,
                "result": None if operation.result is None else dict(operation.result),
            }
        )


def _decode(number: int, line: str) -> Operation:
    try:
        fields = json.loads(line)
        operation = Operation(
            object=str(fields["object"]),
            key=str(fields["key"]),
            client=str(fields["client"]),
            name=str(fields["name"]),
            arguments=dict(fields["arguments"]),
            call=float(fields["call"]),
            returned=None if fields["return"] is None else float(fields["return"]),
            result=None if fields["result"] is None else dict(fields["result"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise HistoryError(f"line {number} is not an operation: {type(error).__name__}: {error}") from error
    if operation.returned is not None and operation.result is None:
        raise HistoryError(f"line {number}: an operation that returned has a result")
    if operation.returned is not None and operation.returned < operation.call:
        raise HistoryError(f"line {number}: an operation returned before it was called")
    return operation


class Recorder:
    """Collects the operations of one process.

    Args:
        clock: seconds; ``time.monotonic`` in a real process.

    Every operation is begun once and ended once: `returned`, `unknown` or `refused`. What is still open when the
    history is read counts as unknown.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next = 0
        self._open: dict[int, Operation] = {}
        self._done: list[Operation] = []

    def call(self, kind: str, key: str, client: str, name: str, **arguments: Any) -> int:
        """An operation is about to be sent; return its token."""
        self._next += 1
        self._open[self._next] = Operation(
            object=kind,
            key=key,
            client=client,
            name=name,
            arguments=arguments,
            call=self._clock(),
            returned=None,
            result=None,
        )
        return self._next

    def returned(self, token: int, **result: Any) -> None:
        """Its answer has come."""
        self._end(token, self._clock(), result)

    def took_effect(self, token: int, **result: Any) -> None:
        """It is known to have taken effect with this result, but not when."""
        self._end(token, None, result)

    def unknown(self, token: int) -> None:
        """Nobody will ever know whether it took effect."""
        self._end(token, None, None)

    def refused(self, token: int) -> None:
        """It surely did not take effect, and never will."""
        del self._open[token]

    def operations(self) -> list[Operation]:
        """Return everything recorded so far."""
        return [*self._done, *self._open.values()]

    def _end(self, token: int, returned: float | None, result: Mapping[str, Any] | None) -> None:
        begun = self._open.pop(token)
        self._done.append(
            Operation(
                object=begun.object,
                key=begun.key,
                client=begun.client,
                name=begun.name,
                arguments=begun.arguments,
                call=begun.call,
                returned=returned,
                result=result,
            )
        )
