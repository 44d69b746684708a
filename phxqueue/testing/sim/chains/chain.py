"""All clients of the attempt chain, and how their part of a run ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from phxqueue.admin.node_status import NodeReport
from phxqueue.admin.sums import sums
from phxqueue.config import Topic
from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.chains.fates import FIRST_QUEUE, GROUPS, LETTERS, QUEUES
from phxqueue.testing.sim.chains.handlers import Handler, Letters
from phxqueue.testing.sim.chains.senders import Sender
from phxqueue.testing.sim.checkers.ends import DROPS_COUNTED_SINCE
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.stores import SimStore

Expect = Callable[[str, Callable[[], bool]], None]


class Chain:
    """Senders, and a handler for each queue and group."""

    def __init__(self, cluster: Cluster, books: Books, topic: Topic, producer_ids: Iterator[int], senders: int) -> None:
        self._cluster = cluster
        self._books = books
        self._topic = topic
        self._producer_ids = producer_ids
        self.senders = [Sender(cluster, books, next(producer_ids)) for _ in range(senders)]
        self.handlers = {
            (queue_id, group): Handler(cluster, books, topic, (queue_id, group), lambda: next(producer_ids))
            for queue_id in QUEUES
            for group in GROUPS
            if senders
        }

    def starts(self) -> list[Callable[[], None]]:
        """What begins at the beginning."""
        return [*(sender.start for sender in self.senders), *(handler.start for handler in self.handlers.values())]

    def finish(self, expect: Expect) -> None:
        """After all faults have healed: everything finds its end, and the sums are right."""
        if not self.senders:
            return
        expect("all items of the attempt chain sent", lambda: all(sender.done for sender in self.senders))
        expect("all items of the attempt chain handled", self._quiet)
        expect("everybody knows which program the others run", self._everybody_knows)
        self._books.chains.ends.everybody_knows = True
        last = Sender(self._cluster, self._books, next(self._producer_ids))
        stored: list[int] = []
        last.send(b"late", stored.append)
        expect("one more item stored", lambda: bool(stored))
        expect("one more item handled", self._quiet)
        letters = Letters(self._cluster, LETTERS)
        letters.start()
        expect("all dead letters read", lambda: letters.done)
        self._books.chains.check(letters.found, sums(self._topic, self._reports()))

    def _quiet(self) -> bool:
        ends = self._books.reference.queues
        return all(
            handler.quiet and handler.position == len(ends.get(queue_id, ()))
            for (queue_id, _), handler in self.handlers.items()
        )

    def _everybody_knows(self) -> bool:
        group_id = FIRST_QUEUE % self._cluster.shape.paxos_groups
        master = self._cluster.master(group_id)
        group = None if master is None else self._cluster.group(master, group_id)
        return group is not None and group.lowest_version >= DROPS_COUNTED_SINCE

    def _reports(self) -> list[NodeReport]:
        [store] = self._topic.stores
        found = []
        for node_id, process in self._cluster.processes.items():
            if isinstance(process.service, SimStore):
                found.append(NodeReport(store, store.node(node_id), process.service.status()))
        return found
