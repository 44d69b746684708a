"""Applied entries are read from memory, else from the journal; a damaged one is repaired, and never handed out."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from phxqueue.journal.errors import CorruptEntry, EntryMissing, JournalOverloaded
from phxqueue.replica.entry_cache import EntryCache
from phxqueue.replica.entry_reader import EntryReader
from phxqueue.replica.errors import EntryUnreadable, Overloaded
from tests.replica.fakes import HandJournal, entry, outcome, stored


class Rig:
    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.journal = HandJournal()
        self.journal.entries = {instance: stored(b"entry %d" % instance) for instance in range(10)}
        self.asked: list[int] = []
        self.reader = EntryReader(
            3,
            self.journal,
            self.clock,
            lambda corrupt: self.asked.append(corrupt.instance),
            cache_bytes=100,
            **settings,
        )

    def damage(self, *instances: int) -> None:
        for instance in instances:
            self.journal.unreadable[instance] = CorruptEntry(3, instance, "checksum")


# ---- the cache ------------------------------------------------------------------------------------------------


def test_the_oldest_leave_the_cache_first() -> None:
    cache = EntryCache(max_bytes=10)
    for instance in range(5):
        cache.put(instance, b"1234")
    assert (len(cache), cache.size) == (2, 8)
    assert [cache.get(instance) for instance in range(5)] == [None, None, None, b"1234", b"1234"]


def test_an_entry_larger_than_the_cache_is_not_kept() -> None:
    cache = EntryCache(max_bytes=10)
    cache.put(0, b"1234")
    cache.put(1, b"x" * 11)
    assert (len(cache), cache.size) == (0, 0)


def test_the_same_entry_counts_once() -> None:
    cache = EntryCache(max_bytes=10)
    cache.put(0, b"1234")
    cache.put(0, b"1234")
    assert (len(cache), cache.size) == (1, 4)


# ---- reading --------------------------------------------------------------------------------------------------


def test_what_is_in_memory_needs_no_journal() -> None:
    rig = Rig()
    rig.reader.cache.put(1, b"one")
    rig.reader.cache.put(2, b"two")
    assert outcome(rig.reader.read([2, 1])) == [b"two", b"one"]
    assert rig.journal.reads == []


def test_the_rest_comes_from_the_journal_in_the_order_asked_for() -> None:
    rig = Rig()
    rig.reader.cache.put(4, b"four")
    assert outcome(rig.reader.read([3, 4, 1])) == [b"entry 3", b"four", b"entry 1"]
    assert rig.journal.reads == [(3, 3), (1, 1)]


def test_what_was_read_does_not_push_recent_entries_out() -> None:
    rig = Rig()
    outcome(rig.reader.read([3]))
    assert rig.reader.cache.get(3) is None


def test_what_is_trimmed_or_refused_is_said_to_be() -> None:
    rig = Rig()
    rig.journal.unreadable[0] = EntryMissing(3, 0, 5)
    assert isinstance(outcome(rig.reader.read([0])), EntryUnreadable)
    rig.journal.unreadable[0] = JournalOverloaded("too many reads wait")
    assert isinstance(outcome(rig.reader.read([0])), Overloaded)


# ---- repair ---------------------------------------------------------------------------------------------------


def test_a_damaged_entry_is_fetched_and_the_others_read() -> None:
    rig = Rig()
    rig.damage(1)
    reading = rig.reader.read([0, 1, 2])
    assert rig.asked == [1]
    rig.reader.repaired(1, entry(b"mended"))
    assert outcome(reading) == [b"entry 0", b"mended", b"entry 2"]


def test_several_damaged_entries_are_fetched_one_after_the_other() -> None:
    rig = Rig()
    rig.damage(0, 2)
    reading = rig.reader.read([0, 1, 2])
    rig.reader.repaired(0, entry(b"first"))
    assert rig.asked == [0, 2]
    rig.reader.repaired(2, entry(b"second"))
    assert outcome(reading) == [b"first", b"entry 1", b"second"]


def test_readers_of_one_damaged_entry_share_its_repair() -> None:
    rig = Rig()
    rig.damage(1)
    readings = [rig.reader.read([1]), rig.reader.read([1])]
    assert rig.asked == [1]
    rig.reader.repaired(1, entry(b"mended"))
    assert [outcome(reading) for reading in readings] == [[b"mended"], [b"mended"]]
    assert rig.clock.getDelayedCalls() == []


def test_a_reader_gives_up_when_no_peer_answers() -> None:
    rig = Rig(repair_timeout=2.0)
    rig.damage(1)
    early = rig.reader.read([1])
    rig.clock.advance(1.5)
    late = rig.reader.read([1])
    rig.clock.advance(0.5)
    assert "no peer sent it within 2.0 s" in str(outcome(early))
    assert outcome(late) is None
    rig.reader.repaired(1, entry(b"mended"))
    assert outcome(late) == [b"mended"]
    assert rig.clock.getDelayedCalls() == []


def test_readers_that_wait_for_repairs_are_bounded() -> None:
    rig = Rig(max_waiting_repairs=2)
    rig.damage(1, 2, 3)
    waiting = [rig.reader.read([1]), rig.reader.read([2])]
    assert "2 readers wait for repairs already" in str(outcome(rig.reader.read([3])))
    rig.reader.repaired(1, entry(b"mended"))
    waiting.append(rig.reader.read([3]))  # there is room again
    rig.reader.repaired(2, entry(b"mended"))
    rig.reader.repaired(3, entry(b"mended"))
    assert [outcome(reading) for reading in waiting] == [[b"mended"]] * 3


def test_a_reader_that_has_gone_leaves_nothing_behind() -> None:
    rig = Rig(max_waiting_repairs=2)
    rig.damage(1)
    gone = rig.reader.read([1])
    gone.cancel()
    assert gone.called
    outcome(gone)
    waiting = rig.reader.read([1])
    assert rig.asked == [1, 1]  # the core may have refused the first one
    rig.reader.repaired(1, entry(b"mended"))
    assert outcome(waiting) == [b"mended"]
    assert rig.clock.getDelayedCalls() == []


def test_news_of_a_repair_nobody_waits_for_is_no_news() -> None:
    Rig().reader.repaired(1, entry(b"mended"))
