"""What the journal's tests share: opening journals that are closed again, waiting for `done`, faults in Berkeley DB."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from phxqueue.config.settings import JournalSettings
from phxqueue.journal import bdb
from phxqueue.journal.journal import Journal
from phxqueue.journal.records import PutChosen, PutEntry, WantedIdentity, Write

NODE = WantedIdentity(cluster="test", store_id=1, node_id=0, paxos_groups=2)

SMALL: dict[str, Any] = {
    "cache_bytes": 4 << 20,
    "page_bytes": 4096,
    "log_file_bytes": 1 << 20,
    "log_buffer_bytes": 256 << 10,
    "min_free_bytes": 0,
    "lazy_commit_delay_ms": 20,
}


class Rig:
    """Opens journals on one directory; knows those still open."""

    def __init__(self, directory: Path, binding: Any) -> None:
        self.directory = directory
        self.binding = binding
        self.fatal: list[str] = []
        self.died: Deferred[str] = Deferred()
        self.journals: list[Journal] = []

    def open(self, *, binding: Any = None, verify: Any = None, wanted: WantedIdentity = NODE, **fields: Any) -> Journal:
        settings = JournalSettings(**{**SMALL, **fields})
        journal = Journal.open(
            self.directory, wanted, settings, reactor, self._died, verify=verify, binding=binding or self.binding
        )
        self.journals.append(journal)
        return journal

    def _died(self, reason: str) -> None:
        self.fatal.append(reason)
        if not self.died.called:
            self.died.callback(reason)

    async def close(self, journal: Journal) -> None:
        self.journals.remove(journal)
        await journal.close()

    async def reopen(self, journal: Journal, **fields: Any) -> Journal:
        await self.close(journal)
        return self.open(**fields)

    @property
    def database(self) -> Path:
        return self.directory / "db"


def entry(instance: int, payload: bytes = b"payload", *, group: int = 0, ballot: int = 1) -> PutEntry:
    return PutEntry(group, instance, ballot, checksum=len(payload), kind=0, payload=payload)


def length_fits(kind: int, payload: bytes, checksum: int) -> bool:
    """The checksum of `entry`: easy to get wrong on purpose."""
    return checksum == len(payload)


def durable(journal: Journal, *writes: Write) -> Deferred[None]:
    """Submit these writes; fires with `done`."""
    done: Deferred[None] = Deferred()
    journal.submit(writes, lambda: done.callback(None))
    return done


async def fill(journal: Journal, first: int, last: int, payload: bytes = b"payload", *, group: int = 0) -> None:
    """Store entries first..last, all chosen."""
    writes: list[Write] = [entry(instance, payload, group=group) for instance in range(first, last + 1)]
    await durable(journal, *writes, PutChosen(group, last))


def flip(path: Path, find: bytes, *, nth: int = 0) -> None:
    """Change a byte of a file inside the nth place where `find` stands."""
    data = bytearray(path.read_bytes())
    at = -1
    for _ in range(nth + 1):
        at = data.index(find, at + 1)
    data[at] ^= 0xFF
    path.write_bytes(data)


class Faults:
    """A binding whose calls fail when asked to. `fail("commit", error)` lets the next call of that name raise."""

    def __init__(self, module: Any | None = None) -> None:
        self.module = module if module is not None else bdb.load()
        self.calls: list[str] = []
        self._planned: dict[str, list[Callable[[], object]]] = {}

    def fail(self, call: str, error: Exception, *, times: int = 1) -> None:
        def raise_it() -> None:
            raise error

        self._planned.setdefault(call, []).extend([raise_it] * times)

    def hold(self, call: str) -> threading.Event:
        """Let the next call of this name wait until the returned event is set."""
        go_on = threading.Event()
        self._planned.setdefault(call, []).append(lambda: go_on.wait(10))
        return go_on

    def _called(self, call: str) -> None:
        self.calls.append(call)
        planned = self._planned.get(call)
        if planned:
            planned.pop(0)()

    def DBEnv(self) -> _Proxy:
        return _Proxy(self, self.module.DBEnv())

    def DB(self, environment: _Proxy) -> _Proxy:
        return _Proxy(self, self.module.DB(environment.real))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


class _Proxy:
    def __init__(self, faults: Faults, real: Any) -> None:
        self.faults = faults
        self.real = real

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.real, name)

        def call(*arguments: Any, **keywords: Any) -> Any:
            self.faults._called(name)
            result = method(*_real(arguments), **keywords)
            return _Proxy(self.faults, result) if name in ("txn_begin", "cursor") else result

        return call


def _real(arguments: Sequence[Any]) -> list[Any]:
    return [argument.real if isinstance(argument, _Proxy) else argument for argument in arguments]
