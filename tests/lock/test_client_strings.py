"""The lock client's strings: versions, compare-and-swap, watches, and what is told when nobody knows."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from phxqueue.config import LockLimits
from phxqueue.lock.client import InvalidRequest, LockError, OutcomeUnknown, StringValue, VersionMismatch
from tests.lock.world import Fault, Process, World, watched


def done(world: World, deferred: Deferred[Any], seconds: float = 0.1) -> Any:
    result = watched(deferred)
    world.run(seconds)
    assert len(result) == 1
    return result[0]


def test_writing_reading_and_removing(world: World, anna: Process) -> None:
    client = anna.client
    assert done(world, client.get("k")) is None
    first = done(world, client.set("k", b"one"))
    second = done(world, client.set("k", b"two", lease=60))
    assert second > first
    value = done(world, client.get("k"))
    assert (value.key, value.value, value.version, value.lease) == ("k", b"two", second, 60.0)
    assert done(world, client.delete("k")) is True
    assert done(world, client.delete("k")) is False
    assert done(world, client.get("k")) is None


def test_compare_and_swap(world: World, anna: Process) -> None:
    client = anna.client
    version = done(world, client.set("k", b"one", expected_version=0))
    assert isinstance(done(world, client.set("k", b"two", expected_version=0)), VersionMismatch)
    newer = done(world, client.set("k", b"two", expected_version=version))
    assert isinstance(done(world, client.set("k", b"three", expected_version=version)), VersionMismatch)
    assert isinstance(done(world, client.delete("k", expected_version=version)), VersionMismatch)
    assert done(world, client.delete("k", expected_version=newer)) is True


def test_a_string_ends_with_its_lease(world: World, anna: Process) -> None:
    done(world, anna.client.set("k", b"x", lease=5))
    world.run(6.0)
    assert done(world, anna.client.get("k")) is None


@pytest.mark.parametrize("fault", [Fault.REQUEST_LOST, Fault.REPLY_LOST])
def test_a_write_that_names_a_version_is_repeated_until_its_outcome_is_known(
    world: World, anna: Process, fault: Fault
) -> None:
    version = done(world, anna.client.set("k", b"one"))
    faults = [fault]
    world.fault = lambda method, request: faults.pop() if faults and method == "SetString" else None
    written = done(world, anna.client.set("k", b"two", expected_version=version), 5.0)
    assert written > version
    value = done(world, anna.client.get("k"))
    assert (value.value, value.version) == (b"two", written)


def test_a_write_whose_repetition_meets_a_later_write_has_an_unknown_outcome(world: World, anna: Process) -> None:
    """It was carried out, its answer was lost, and somebody has written after it: the version proves nothing."""
    ben = Process(world, "ben", 2)
    version = done(world, anna.client.set("k", b"one"))
    lost: list[bool] = []

    def fault(method: str, request: Any) -> Fault | None:
        if method == "SetString" and request.value == b"two" and not lost:
            lost.append(True)
            return Fault.REPLY_LOST
        return None

    world.fault = fault
    result = watched(anna.client.set("k", b"two", expected_version=version))
    # Between the first try and the second.
    world.clock.callLater(0.0011, lambda: watched(ben.client.set("k", b"three")))
    anna.stop()
    world.run(0.1)
    anna.go_on()
    world.run(5.0)
    assert isinstance(result[0], OutcomeUnknown)
    assert done(world, anna.client.get("k")).value == b"three"


def test_a_write_without_version_is_not_repeated_when_it_may_have_been_carried_out(world: World, anna: Process) -> None:
    done(world, anna.client.set("k", b"one"))
    world.fault = lambda method, request: Fault.REPLY_LOST if method == "SetString" else None
    sent = len([name for name, _ in world.calls if name == "SetString"])
    result = done(world, anna.client.set("k", b"two"), 5.0)
    assert isinstance(result, OutcomeUnknown)
    assert len([name for name, _ in world.calls if name == "SetString"]) == sent + 1
    assert done(world, anna.client.get("k")).value == b"two"


def test_a_write_without_version_goes_on_through_a_failover_that_it_did_not_meet(world: World, anna: Process) -> None:
    done(world, anna.client.set("k", b"one"))
    world.kill(0)
    result = watched(anna.client.set("k", b"two"))
    world.run(0.5)
    world.elect(2)
    world.run(1.0)
    assert result[0] > 0
    assert done(world, anna.client.get("k")).value == b"two"


def test_reads_find_the_new_master(world: World, anna: Process) -> None:
    done(world, anna.client.set("k", b"one"))
    world.depose(to=1)
    assert done(world, anna.client.get("k"), 1.0).value == b"one"


# ---- watching ----------------------------------------------------------------------------------


def test_watching_a_string(world: World, anna: Process) -> None:
    ben = Process(world, "ben", 2)
    watching = watched(anna.client.watch("k"))
    world.run(100.0)
    assert watching == []
    version = done(world, ben.client.set("k", b"one"))
    [value] = watching
    assert (value.value, value.version) == (b"one", version)
    assert done(world, anna.client.watch("k")) == value  # known version 0: there is one now
    watching = watched(anna.client.watch("k", version))
    done(world, ben.client.delete("k"))
    assert watching == [None]


def test_watching_a_lock_and_its_end(world: World, anna: Process) -> None:
    ben = Process(world, "ben", 2)
    watching = watched(anna.client.watch_lock("a"))
    held = done(world, ben.client.acquire("a"))
    assert watching[0].token == held.token
    watching = watched(anna.client.watch_lock("a", held.token))
    world.run(60.0)
    assert watching == []
    done(world, held.release())
    assert watching == [None]


def test_watching_for_so_long(world: World, anna: Process) -> None:
    version = done(world, anna.client.set("k", b"one"))
    watching = watched(anna.client.watch("k", version, wait=60.0))
    world.run(59.0)
    assert watching == []
    world.run(1.1)
    assert isinstance(watching[0], StringValue)
    assert watching[0].version == version


def test_watching_through_a_failover(world: World, anna: Process) -> None:
    version = done(world, anna.client.set("k", b"one"))
    watching = watched(anna.client.watch("k", version))
    world.run(1.0)
    world.kill(0)
    world.run(0.5)
    world.elect(1)
    world.run(1.0)
    assert watching == []
    ben = Process(world, "ben", 2)
    newer = done(world, ben.client.set("k", b"two"), 1.0)
    assert watching[0].version == newer


def test_who_stops_watching_leaves_nothing_behind(world: World, anna: Process) -> None:
    watching = anna.client.watch("k")
    result = watched(watching)
    world.run(1.0)
    watching.cancel()
    assert isinstance(result[0], CancelledError)
    world.run(0.1)


# ---- listing, mistakes -------------------------------------------------------------------------


def test_listing_goes_from_page_to_page() -> None:
    world = World(limits=LockLimits(list_keys=3))
    anna = Process(world)
    for number in range(10):
        done(world, anna.client.set(f"k{number}", b"x"))
    done(world, anna.client.set("other", b"x"))
    keys: list[str] = []

    async def collect() -> None:
        async for value in anna.client.strings("k"):
            keys.append(value.key)

    done(world, Deferred.fromCoroutine(collect()))
    assert keys == [f"k{number}" for number in range(10)]
    world.close()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"key": ""}, "key: it is empty"),
        ({"key": "k", "value": "text"}, "must be bytes"),
        ({"key": "k", "value": b"x" * (1 << 19)}, "limits.value_bytes"),
        ({"key": "k", "expected_version": -1}, "expected_version: -1"),
        ({"key": "k", "expected_version": 1 << 64}, "expected_version"),
        ({"key": "k", "lease": -1}, "lease: -1"),
    ],
)
def test_what_makes_no_sense_is_refused(world: World, anna: Process, arguments: dict[str, Any], text: str) -> None:
    result = done(world, anna.client.set(**{"value": b"x", **arguments}))
    assert isinstance(result, InvalidRequest)
    assert text in str(result)


def test_every_failure_is_a_lock_error(world: World, anna: Process) -> None:
    for node in range(3):
        world.kill(node)
    for call in (
        anna.client.get("k"),
        anna.client.set("k", b"x"),
        anna.client.delete("k", expected_version=1),
        anna.client.watch("k", wait=1.0),
        anna.client.lock_state("k"),
        anna.client.break_lock("k", "x", 1),
    ):
        assert isinstance(done(world, call, 15.0), LockError)
