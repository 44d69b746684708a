"""The clients of half messages, idempotency keys and atomic batches in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.bundlers import Bundler
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.namers import Namer
from phxqueue.testing.sim.preparers import Answerer, Preparer

NAMERS = 2
"""That send the same keys."""


class Promisers:
    """All of them; none when the workload has none."""

    def __init__(self, cluster: Cluster, books: Books, producer_ids: Iterator[int], count: int) -> None:
        self._books = books
        self._preparers = [Preparer(cluster, books, producer_ids) for _ in range(count)]
        self._namers = [Namer(cluster, books, producer_ids) for _ in range(NAMERS * bool(count))]
        self._bundlers = [Bundler(cluster, books, producer_ids) for _ in range(count)]
        self._answerers = [Answerer(cluster, books, node_id) for node_id in cluster.node_ids] if count else []

    def starts(self) -> list[Callable[[], None]]:
        """What has each of them begin."""
        starts = [preparer.start for preparer in self._preparers]
        starts += [namer.start for namer in self._namers]
        starts += [bundler.start for bundler in self._bundlers]
        return [*starts, *(answerer.start for answerer in self._answerers)]

    def finish(self, expect: Callable[[str, Callable[[], bool]], None]) -> None:
        """After all faults have healed."""
        expect("half messages prepared and decided", lambda: all(preparer.done for preparer in self._preparers))
        expect("keys all have outcomes", lambda: all(namer.done for namer in self._namers))
        expect("bundles all have outcomes", lambda: all(bundler.done for bundler in self._bundlers))
        expect("every half message is decided", lambda: not self._books.reference.prepared)

    def check_contents(self, contents: Mapping[int, Sequence[bytes]]) -> None:
        """At the end; `contents` is every queue, read from its beginning to its end."""
        self._books.halves.check_contents(contents)
        self._books.keys.check_contents(contents)
        self._books.together.check_contents(contents)
