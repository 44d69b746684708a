"""Settings of a topic: replicated, bounded, in checkpoints, and served by Paxos group 0's master only."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.store_pb2 import GetSettingsRequest, SetSettingRequest, SettingChange, StoreCommand
from phxqueue.replica.errors import NotServing, OutcomeUnknown, Overloaded
from phxqueue.store.outcomes import Refusal
from phxqueue.store.queues import COMMAND_VERSION, StoreQueues
from phxqueue.store.settings_service import SettingsService
from phxqueue.store.settings_table import MAX_KEY_BYTES, MAX_SETTINGS, MAX_VALUE_BYTES
from phxqueue.store.state import SETTINGS_VERSION
from tests.store.fakes import NOW_MS, StoreGroup, batch


def change(key: str, value: bytes | None) -> SettingChange:
    return SettingChange(key=key, value=value)


def apply(machine: StoreQueues, *changes: SettingChange, batches: Any = ()) -> list[Any]:
    command = StoreCommand(version=SETTINGS_VERSION, timestamp_ms=NOW_MS, batches=batches, settings=changes)
    outcomes = machine.apply(machine.applied + 1, 0, command.SerializeToString())
    assert isinstance(outcomes, list)
    return outcomes


def test_settings_are_set_changed_and_taken_out() -> None:
    machine = StoreQueues()
    assert apply(machine, change("a", b"1"), batches=[batch(count=3)]) == [0, 1]
    assert apply(machine, change("a", b"1")) == [1], "nothing has changed"
    assert apply(machine, change("b", b""), change("a", b"2")) == [3, 3]
    assert machine.settings.values == {"a": b"2", "b": b""}
    assert apply(machine, change("a", None), change("nothing", None)) == [4, 4]
    assert machine.settings.values == {"b": b""}


@pytest.mark.parametrize(
    ("key", "value"), [("", b"1"), ("k" * (MAX_KEY_BYTES + 1), b"1"), ("k", b"v" * (MAX_VALUE_BYTES + 1))]
)
def test_settings_are_small(key: str, value: bytes) -> None:
    machine = StoreQueues()
    [outcome] = apply(machine, change(key, value))
    assert isinstance(outcome, Refusal)
    assert outcome.status is Status.INVALID_ARGUMENT
    assert machine.settings.values == {}


def test_settings_are_few() -> None:
    machine = StoreQueues()
    apply(machine, *(change(str(number), b"x") for number in range(MAX_SETTINGS)))
    [more, same, gone, again] = apply(
        machine, change("more", b"x"), change("7", b"y"), change("7", None), change("more", b"x")
    )
    assert isinstance(more, Refusal)
    assert more.status is Status.RESOURCE_EXHAUSTED
    assert same == gone == again == machine.applied + 1


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.binary(max_size=50), max_size=20))
def test_checkpoints_hold_settings(values: dict[str, bytes]) -> None:
    machine = StoreQueues()
    before = machine.state_hash()
    apply(machine, *(change(key, value) for key, value in values.items()), batches=[batch(count=2)])
    checkpoint = machine.checkpoint()
    other = StoreQueues()
    other.restore(checkpoint.state, checkpoint.segments)
    assert other.settings.values == values
    assert other.settings.revision == machine.settings.revision
    assert other.state_hash() == machine.state_hash() != before
    assert other.end_cursor(1) == 2


def test_a_state_without_settings_is_written_as_ever() -> None:
    """So that a node whose program knows no settings can read it, until the first one is set."""
    machine = StoreQueues()
    machine.apply(0, 0, StoreCommand(version=1, timestamp_ms=NOW_MS, batches=[batch()]).SerializeToString())
    assert machine.checkpoint().state[8:10] == b"\x02\x00"


class Served:
    """A service over a group without Paxos."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.group = StoreGroup()
        self.service = SettingsService(
            self.group, self.group.state_machine, timestamp_ms=lambda: NOW_MS, retry_after_ms=50,
            refuse=lambda: RpcError(Status.NO_MASTER, "not here"),
        )  # fmt: skip

    def set(self, key: str, value: bytes | None) -> list[Any]:
        outcomes: list[Any] = []
        self.service.set(SetSettingRequest(change=change(key, value))).addCallbacks(
            outcomes.append, lambda failure: outcomes.append(failure.value)
        )
        return outcomes


def test_a_change_is_answered_when_it_is_chosen() -> None:
    served = Served()
    served.group.auto = False
    outcomes = served.set("a", b"1")
    assert outcomes == []
    assert dict(served.service.get(GetSettingsRequest()).settings) == {}
    served.group.choose()
    assert outcomes[0].revision == 1
    response = served.service.get(GetSettingsRequest())
    assert (response.revision, dict(response.settings), response.unchanged) == (1, {"a": b"1"}, False)
    assert served.service.get(GetSettingsRequest(known_revision=1)).unchanged
    assert not served.service.get(GetSettingsRequest(known_revision=0)).unchanged


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotServing("gone"), Status.NO_MASTER),
        (Overloaded("full"), Status.RESOURCE_EXHAUSTED),
        (OutcomeUnknown("nobody knows"), Status.UNAVAILABLE),
    ],
)
def test_what_becomes_of_a_change_is_told(error: Exception, status: Status) -> None:
    served = Served()
    served.group.auto = False
    outcomes = served.set("a", b"1")
    served.group.lose(error, master=1)
    assert [outcome.status for outcome in outcomes] == [status]


def test_a_refused_change_is_told() -> None:
    [error] = Served().set("", b"1")
    assert error.status is Status.INVALID_ARGUMENT


def test_a_node_that_knows_no_settings_and_a_full_window_are_respected() -> None:
    served = Served()
    served.group.lowest_version = SETTINGS_VERSION - 1
    with pytest.raises(RpcError, match="upgrade all of them"):
        served.set("a", b"1")
    served.group.lowest_version = COMMAND_VERSION
    served.group.window = 0
    with pytest.raises(RpcError, match="window full"):
        served.set("a", b"1")
    assert served.group.log == []
