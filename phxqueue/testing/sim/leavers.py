"""A consumer group that is taken out of the configuration files while everything runs, and put back."""

from __future__ import annotations

from collections.abc import Callable

from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.cluster import Cluster

AWAY = (0.3, 0.8, 4.0, 5.0)
"""How long, in seconds, from when all files are without it: for less than its grace time, or for longer."""
APART = 0.3
"""The files of one node change after those of another, by at most so many seconds."""


class Leaver:
    """Changes the files of all nodes, twice.

    Args:
        install: gives a node files in which only these groups are.
    """

    def __init__(self, cluster: Cluster, books: Books, install: Callable[[int, tuple[int, ...]], None]) -> None:
        self._cluster = cluster
        self._books = books
        self._install = install
        self._left = 2 * len(cluster.node_ids)

    @property
    def done(self) -> bool:
        """Whether it is in all files again."""
        return not self._left

    def start(self) -> None:
        """Begin, at some time in the midst of things."""
        world, groups = self._cluster.world, self._books.workload.groups
        out = world.random.uniform(0.2, 1.5)
        back = out + APART + world.random.choice(AWAY)
        for node_id in self._cluster.node_ids:
            world.call_later(out + world.random.uniform(0, APART), self._change, node_id, groups[:-1])
            world.call_later(back + world.random.uniform(0, APART), self._change, node_id, groups)

    def _change(self, node_id: int, groups: tuple[int, ...]) -> None:
        self._left -= 1
        if groups != self._books.workload.groups:
            self._books.leaving.out(self._books.workload.groups[-1], self._cluster.world.now)
        elif self.done:
            self._books.leaving.back(groups[-1], self._cluster.world.now)
        self._books.note("files", node_id, groups)
        self._install(node_id, groups)
