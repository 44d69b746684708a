"""What the log says: the chosen commands read by a second, plain implementation, with the history of every key."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from phxqueue.proto.lock_pb2 import LockCommand, LockOperation
from phxqueue.testing.sim.checkers import Violation

FREE = ("", 0)
"""(client id, version) of a lock that nobody holds."""

_SHIFT = 16


@dataclass(slots=True)
class _Key:
    """Every value a lock has had: from `places[n]` on it was `values[n]`."""

    places: list[int] = field(default_factory=lambda: [-1])
    values: list[tuple[str, int]] = field(default_factory=lambda: [FREE])
    stamp: int = 0  # of the operation by which the lease began last


class LockReference:
    """The locks of one Paxos group. A place is a point of the log, in effect after an operation.

    Args:
        fence: a version is the place of its operation and this; above 0: the group was restored from a backup, and
            grants nothing until an entry says so.
    """

    def __init__(self, fence: int = 0) -> None:
        self.end = 0
        self._fence = fence
        self._granting = not fence
        self._term = 0
        self._keys: dict[str, _Key] = {}

    def chosen(self, instance: int, payload: bytes) -> None:
        """The next entry with a command."""
        command = LockCommand.FromString(payload)
        place = instance << _SHIFT
        if command.begins_term:
            self._term = place + 1
        elif command.term == self._term:
            for operation in command.operations:
                place += 1
                self._carry_out(operation, place)
        self.end = (instance + 1 << _SHIFT) - 1

    def _carry_out(self, operation: LockOperation, place: int) -> None:
        kinds, key = LockOperation.Kind, self._keys.setdefault(operation.key, _Key())
        holder, version = held = key.values[-1]
        stamp = place + self._fence
        own = (operation.client_id, operation.expected_version) == held
        if operation.kind == kinds.ACQUIRE:
            if holder and holder == operation.client_id:
                key.stamp = stamp
                return
            expected = not operation.HasField("expected_version") or operation.expected_version == version
            if expected and (operation.force or (not holder and self._granting)):
                self._change(key, place, (operation.client_id, stamp))
                key.stamp = stamp
        elif operation.kind == kinds.RENEW and own and holder:
            key.stamp = stamp
        elif operation.kind == kinds.OPEN:
            self._granting = True
        elif (operation.kind == kinds.RELEASE and holder and (own or operation.force)) or (
            operation.kind == kinds.EXPIRE_LOCK and holder and key.stamp == operation.expected_version
        ):
            self._change(key, place, FREE)

    @staticmethod
    def _change(key: _Key, place: int, value: tuple[str, int]) -> None:
        key.places.append(place)
        key.values.append(value)

    def find(self, name: str, value: tuple[str, int], floor: int) -> int:
        """The first place, not before `floor`, at which a lock was so. Raises Violation when there is none."""
        key = self._keys.get(name, _Key())
        first = bisect_right(key.places, floor) - 1
        for number in range(first, len(key.places)):
            if key.values[number] == value:
                return max(key.places[number], floor)
        raise Violation(
            f"lock {name!r} was told to be {value}; since place {floor} the log has {key.values[first:]} "
            f"(in all {key.values})"
        )
