"""What is written down about the attempt chain: what was enqueued, what may be handled twice, what was chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from phxqueue.admin.dlq.letters import Letter, LetterId
from phxqueue.admin.sums import Sums
from phxqueue.proto.item_pb2 import QItem
from phxqueue.proto.store_pb2 import StoreCommand
from phxqueue.testing.sim.chains.fates import GROUPS, LETTERS, PUB_ID, QUEUES, fate_of
from phxqueue.testing.sim.checkers.dead_letters import FoundLetter, check_letters
from phxqueue.testing.sim.checkers.ends import Ends, Places


class ChainAccounts:
    """Where the clients of the chain report.

    Args:
        item_at: what stands at a cursor of a queue.
    """

    def __init__(self, item_at: Callable[[int, int], bytes]) -> None:
        self.ends = Ends(QUEUES, LETTERS, GROUPS, lambda queue_id, cursor: fate_of(item_at(queue_id, cursor)).late)
        self._offered: list[bytes] = []
        self._repeats: Counter[tuple[bytes, int]] = Counter()
        self._seen: set[tuple[int, int]] = set()

    def offered(self, item: bytes) -> None:
        """An item is sent; whoever does so sends it until it is stored."""
        self._offered.append(item)

    def may_repeat(self, item: bytes, group: int) -> None:
        """A consumer died: a copy of the item may be handled once more."""
        self._repeats[item, group] += 1

    def chosen(self, group_id: int, payload: bytes) -> None:
        """The next entry of a Paxos group."""
        command = StoreCommand.FromString(payload)
        for batch in command.batches:
            name = batch.header.producer_id, batch.header.sequence
            if name not in self._seen:
                self._seen.add(name)
                self.ends.stored(group_id, batch.header, command.version)
        self.ends.moved(group_id, command)

    def check(self, letters: Iterable[QItem], told: Iterable[Sums]) -> None:
        """When everything that was offered has found its end."""
        wanted = {item: (fate_of(item).reason, fate_of(item).attempts) for item in self._offered}
        check_letters(wanted, GROUPS, self._repeats, map(_found, letters))
        for sums in told:
            if sums.consumer_group_id in GROUPS:
                places = Places(
                    enqueued=sums.enqueued,
                    finished=sums.finished,
                    waiting=sums.waiting,
                    dead=sums.dead,
                    dropped=sums.dropped,
                )
                self.ends.check(sums.consumer_group_id, places)


def _found(item: QItem) -> FoundLetter:
    letter = Letter(LetterId(0, PUB_ID, 0), item, 0, 0)
    return FoundLetter(item.buffer, item.consumer_group_ids.bit_length(), letter.reason, int(letter.attempts or 0))
