"""Every checker lets a good history pass and rejects a bad one, by its own rule and at the moment it breaks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from phxqueue.journal.records import NodeIdentity, PutEntry, PutPromise
from phxqueue.paxos.entry import EntryKind, make_entry
from phxqueue.paxos.messages import Accepted, Heartbeat, LearnReply, Message, Prepare, Promise
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch, QItem, QItems
from phxqueue.proto.store_pb2 import CursorMove, GetBatch, StoreCommand
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.calm import Calm
from phxqueue.testing.sim.checkers.chosen_marks import ChosenMarks
from phxqueue.testing.sim.checkers.cursors import Cursors
from phxqueue.testing.sim.checkers.decided import Decided
from phxqueue.testing.sim.checkers.delays import Delays
from phxqueue.testing.sim.checkers.durable_answers import DurableAnswers
from phxqueue.testing.sim.checkers.durable_majority import DurableMajority
from phxqueue.testing.sim.checkers.electorate import Electorate
from phxqueue.testing.sim.checkers.ledger import Ledger
from phxqueue.testing.sim.checkers.one_value import OneValue
from phxqueue.testing.sim.checkers.promises import PromisesOnlyRise
from phxqueue.testing.sim.checkers.reads import Reads
from phxqueue.testing.sim.checkers.reference import Reference
from phxqueue.testing.sim.checkers.replays import Replays
from phxqueue.testing.sim.checkers.single_leaseholder import SingleLeaseholder
from phxqueue.testing.sim.checkers.state_hash import StateHash
from phxqueue.testing.sim.checkers.versions import Versions
from phxqueue.testing.sim.disk import Disk

QUEUE = (1, 7)
OTHER = (1, 8)


def put(instance: int, payload: bytes, ballot: int = 5, group: int = 0) -> PutEntry:
    entry = make_entry(ballot, EntryKind.VALUE, payload)
    return PutEntry(group, instance, ballot, entry.checksum, int(entry.kind), payload)


def disks(count: int = 3) -> dict[int, Disk]:
    return {node_id: Disk(NodeIdentity("sim", 1, node_id, 9)) for node_id in range(count)}


# ---- what is chosen ---------------------------------------------------------------------------------------


class TestOneValue:
    def test_the_same_history_everywhere(self) -> None:
        checker = OneValue()
        assert checker.applied(0, 0, -1, 0, (0, b"a"))
        assert not checker.applied(1, 0, -1, 0, (0, b"a"))
        assert checker.applied(0, 0, 0, 1, (1, b""))

    def test_a_replay_repeats_history(self) -> None:
        checker = OneValue()
        checker.applied(0, 0, -1, 0, (0, b"a"))
        assert not checker.applied(0, 0, -1, 0, (0, b"a"))

    def test_two_values(self) -> None:
        checker = OneValue()
        checker.applied(0, 0, -1, 0, (0, b"a"))
        with pytest.raises(Violation, match=r"instance 0: node 1 applied .*b'b'"):
            checker.applied(1, 0, -1, 0, (0, b"b"))

    def test_a_no_op_instead_of_a_value(self) -> None:
        checker = OneValue()
        checker.applied(0, 0, -1, 0, (0, b""))
        with pytest.raises(Violation, match="instance 0"):
            checker.applied(1, 0, -1, 0, (1, b""))

    @pytest.mark.parametrize("instance", [3, 1, 0])
    def test_out_of_order(self, instance: int) -> None:
        with pytest.raises(Violation, match=f"applied instance {instance} after 1"):
            OneValue().applied(0, 0, 1, instance, (0, b"a"))


class TestDecided:
    def test_a_majority_at_one_ballot_decides(self) -> None:
        checker = Decided(Electorate(3))
        checker.durable(0, put(0, b"a"))
        assert checker.prefix(0) == -1
        checker.durable(2, put(0, b"a"))
        assert checker.prefix(0) == 0
        assert checker.value(0, 0) == (0, put(0, b"a").checksum)

    def test_two_ballots_do_not_add_up(self) -> None:
        checker = Decided(Electorate(3))
        checker.durable(0, put(0, b"a", ballot=5))
        checker.durable(1, put(0, b"a", ballot=6))
        assert checker.value(0, 0) is None

    def test_one_node_twice_is_no_majority(self) -> None:
        checker = Decided(Electorate(3))
        checker.durable(0, put(0, b"a"))
        checker.durable(0, put(0, b"a"))
        assert checker.value(0, 0) is None

    def test_the_prefix_waits_for_gaps(self) -> None:
        checker = Decided(Electorate(1))
        checker.durable(0, put(1, b"b"))
        assert checker.prefix(0) == -1
        checker.durable(0, put(0, b"a"))
        assert checker.prefix(0) == 1

    def test_the_same_value_may_be_chosen_again(self) -> None:
        checker = Decided(Electorate(3))
        for ballot in (5, 6):
            for node_id in (0, 1):
                checker.durable(node_id, put(0, b"a", ballot))

    def test_a_second_value_at_a_higher_ballot(self) -> None:
        checker = Decided(Electorate(3))
        checker.durable(0, put(0, b"a", ballot=5))
        checker.durable(1, put(0, b"a", ballot=5))
        checker.durable(1, put(0, b"b", ballot=6))  # not chosen yet
        with pytest.raises(Violation, match="a second value was chosen, at ballot 6"):
            checker.durable(2, put(0, b"b", ballot=6))

    def test_two_values_of_one_ballot(self) -> None:
        checker = Decided(Electorate(3))
        checker.durable(0, put(0, b"a"))
        with pytest.raises(Violation, match="a second value of ballot 5"):
            checker.durable(1, put(0, b"b"))


class TestChosenMarks:
    def marks(self) -> ChosenMarks:
        decided = Decided(Electorate(3))
        for node_id in (0, 1):
            decided.durable(node_id, put(0, b"a"))
        return ChosenMarks(decided)

    def test_true_marks(self) -> None:
        learned = LearnReply(0, 1, 0, 0, ((0, make_entry(5, EntryKind.VALUE, b"a")),))
        self.marks().sent(0, [(0, Heartbeat(0, 1, 5, 0, 0.0, 1)), (0, learned), (1, Heartbeat(0, 1, 5, -1, 0.0, 1))])

    @pytest.mark.parametrize(
        "message",
        [Heartbeat(0, 1, 5, 1, 0.0, 1), Promise(0, 1, 5, 0, 0, True, 1, ()), Accepted(0, 1, 5, 0, -1, 1)],
    )
    def test_a_mark_ahead_of_the_truth(self, message: Message) -> None:
        with pytest.raises(Violation, match=r"everything up to 1 is chosen; a majority of disks holds 0 at most"):
            self.marks().sent(0, [(0, message)])

    def test_a_mark_of_another_group_is_no_help(self) -> None:
        with pytest.raises(Violation, match="group 1"):
            self.marks().sent(0, [(1, Heartbeat(0, 1, 5, 0, 0.0, 1))])

    def test_a_wrong_entry_taught(self) -> None:
        learned = LearnReply(0, 1, 0, 0, ((0, make_entry(5, EntryKind.VALUE, b"b")),))
        with pytest.raises(Violation, match="teaches instance 0"):
            self.marks().sent(0, [(0, learned)])

    def test_an_undecided_entry_taught(self) -> None:
        chosen, undecided = make_entry(5, EntryKind.VALUE, b"a"), make_entry(5, EntryKind.VALUE, b"b")
        with pytest.raises(Violation, match="chosen is None"):
            self.marks().sent(0, [(0, LearnReply(0, 1, 0, 0, ((0, chosen), (1, undecided))))])

    def test_an_entry_above_the_mark_is_not_said_to_be_chosen(self) -> None:
        learned = LearnReply(0, 1, 1, 0, ((1, make_entry(5, EntryKind.VALUE, b"b")),))
        self.marks().sent(0, [(0, learned)])


class TestStateHash:
    def test_equal_states(self) -> None:
        checker = StateHash()
        checker.seen(0, 0, 16, 1234)
        checker.seen(1, 0, 16, 1234)
        checker.seen(1, 0, 17, 99)
        checker.seen(1, 1, 16, 5)

    def test_diverged_states(self) -> None:
        checker = StateHash()
        checker.seen(0, 0, 16, 1234)
        with pytest.raises(Violation, match="after instance 16: nodes 0 and 1 have diverged"):
            checker.seen(1, 0, 16, 1235)


# ---- what is durable --------------------------------------------------------------------------------------


class TestDurableMajority:
    def test_a_majority_of_disks(self) -> None:
        stored = disks()
        for node_id in (0, 2):
            stored[node_id].commit([put(4, b"a")])
        DurableMajority(stored, Electorate(3)).applied(0, 0, 4, 0, b"a")

    def test_only_a_minority(self) -> None:
        stored = disks()
        stored[0].commit([put(4, b"a")])
        with pytest.raises(Violation, match="only 1 of the 3 disks hold it; a majority is 2"):
            DurableMajority(stored, Electorate(3)).applied(0, 0, 4, 0, b"a")

    def test_another_value_does_not_count(self) -> None:
        stored = disks()
        stored[0].commit([put(4, b"a")])
        stored[1].commit([put(4, b"b", ballot=6)])
        with pytest.raises(Violation, match="only 1"):
            DurableMajority(stored, Electorate(3)).applied(0, 0, 4, 0, b"a")

    def test_applied_and_not_on_the_own_disk(self) -> None:
        stored = disks()
        for node_id in (0, 1):
            stored[node_id].commit([put(4, b"a")])
        with pytest.raises(Violation, match="node 2 applied what its disk does not hold"):
            DurableMajority(stored, Electorate(3)).applied(2, 0, 4, 0, b"a")


class TestDurableAnswers:
    def sent(self, disk: Disk, *messages: Message) -> None:
        DurableAnswers({0: disk}).sent(0, [(0, message) for message in messages])

    def test_durable_answers(self) -> None:
        disk = disks(1)[0]
        disk.commit([PutPromise(0, 5), put(0, b"a"), put(1, b"b")])
        self.sent(disk, Promise(0, 1, 5, 0, 0, True, -1, ()), Accepted(0, 1, 5, 0, 1, -1), Prepare(0, 1, 5, 0))

    def test_an_acceptor_may_repeat_itself_after_a_higher_promise(self) -> None:
        disk = disks(1)[0]
        disk.commit([put(0, b"a", ballot=5), PutPromise(0, 9)])
        self.sent(disk, Accepted(0, 1, 5, 0, 0, -1))

    @pytest.mark.parametrize("message", [Promise(0, 1, 6, 0, 0, True, -1, ()), Prepare(0, 1, 6, 0)])
    def test_a_promise_not_yet_durable(self, message: Message) -> None:
        disk = disks(1)[0]
        disk.commit([PutPromise(0, 5)])
        with pytest.raises(Violation, match="has promised no more than 5"):
            self.sent(disk, message)

    def test_an_accept_not_yet_durable(self) -> None:
        disk = disks(1)[0]
        disk.commit([put(0, b"a")])
        with pytest.raises(Violation, match="says it accepted instance 1 at ballot 5"):
            self.sent(disk, Accepted(0, 1, 5, 0, 1, -1))

    def test_an_accept_at_another_ballot(self) -> None:
        disk = disks(1)[0]
        disk.commit([put(0, b"a", ballot=4)])
        with pytest.raises(Violation, match="ballot 5"):
            self.sent(disk, Accepted(0, 1, 5, 0, 0, -1))

    def test_an_accept_against_a_promise(self) -> None:
        disk = disks(1)[0]
        disk.commit([PutPromise(0, 9), put(0, b"a", ballot=5)])
        with pytest.raises(Violation, match="took it against a promise"):
            self.sent(disk, Accepted(0, 1, 5, 0, 0, -1))


class TestPromisesOnlyRise:
    def test_rising(self) -> None:
        checker, stored = PromisesOnlyRise(), disks()
        stored[0].commit([PutPromise(0, 5)])
        checker.check(stored)
        stored[0].commit([PutPromise(0, 6)])
        checker.check(stored)

    @pytest.mark.parametrize(("promised", "chosen"), [(4, 3), (5, 2)])
    def test_falling(self, promised: int, chosen: int) -> None:
        checker, stored = PromisesOnlyRise(), disks()
        group = stored[0].group(0)
        group.promised, group.chosen = 5, 3
        checker.check(stored)
        group.promised, group.chosen = promised, chosen
        with pytest.raises(Violation, match="node 0 group 0 went back"):
            checker.check(stored)


# ---- masters ------------------------------------------------------------------------------------------------


class Lease:
    def __init__(self, valid: bool) -> None:
        self.valid = valid

    def serving(self) -> bool:
        return self.valid


class TestSingleLeaseholder:
    def test_one_after_the_other(self) -> None:
        checker, first, second = SingleLeaseholder(), Lease(True), Lease(False)
        checker.check(0, {0: first})
        checker.check(1, {0: second})
        first.valid, second.valid = False, True
        checker.check(1, {0: second})
        checker.check(0, {0: first})

    def test_groups_have_masters_of_their_own(self) -> None:
        checker = SingleLeaseholder()
        checker.check(0, {0: Lease(True), 1: Lease(False)})
        checker.check(1, {0: Lease(False), 1: Lease(True)})

    def test_two_at_once(self) -> None:
        checker = SingleLeaseholder()
        checker.check(0, {0: Lease(True)})
        with pytest.raises(Violation, match="nodes 0 and 1 both hold the lease of group 0"):
            checker.check(1, {0: Lease(True)})

    def test_a_dead_process_holds_nothing(self) -> None:
        checker = SingleLeaseholder()
        checker.check(0, {0: Lease(True)})
        checker.gone(0)
        checker.check(1, {0: Lease(True)})


class TestCalm:
    def test_one_master_per_group(self) -> None:
        checker = Calm()
        checker.mastership(0, 1, True)
        checker.mastership(1, 2, True)

    def test_lost(self) -> None:
        checker = Calm()
        checker.mastership(0, 1, True)
        with pytest.raises(Violation, match="node 1 lost the mastership of group 0"):
            checker.mastership(0, 1, False)

    def test_taken_over(self) -> None:
        checker = Calm()
        checker.mastership(0, 1, True)
        with pytest.raises(Violation, match="node 2 took group 0 over from node 1"):
            checker.mastership(0, 2, True)


# ---- what clients see -----------------------------------------------------------------------------------------


class TestLedger:
    def ledger(self, *items: bytes, mask: int = 1) -> Ledger:
        ledger = Ledger()
        for number, item in enumerate(items):
            ledger.offered((1, 0), number, item, mask)
        return ledger

    def test_a_good_history(self) -> None:
        ledger = self.ledger(b"a", b"b", b"c")
        ledger.was_acknowledged(QUEUE, 0, b"a")
        ledger.was_acknowledged(QUEUE, 1, b"b")
        ledger.was_delivered(QUEUE, 0, b"a", 1)
        ledger.was_delivered(QUEUE, 0, b"a", 1)  # again: at least once
        ledger.check_contents({QUEUE: [b"a", b"b"], OTHER: [b"c"]})  # c: stored, and nobody was told
        ledger.check_delivered(QUEUE, 1, [b"a", b"b"], {0: b"a", 1: b"b"})

    def test_lost(self) -> None:
        ledger = self.ledger(b"a", b"b")
        ledger.was_acknowledged(QUEUE, 1, b"b")
        with pytest.raises(Violation, match="an item was lost"):
            ledger.check_contents({QUEUE: [b"a"]})

    def test_invented(self) -> None:
        with pytest.raises(Violation, match="which nobody offered"):
            self.ledger(b"a").was_delivered(QUEUE, 0, b"x")

    def test_altered(self) -> None:
        ledger = self.ledger(b"a", b"b")
        ledger.was_acknowledged(QUEUE, 0, b"a")
        with pytest.raises(Violation, match="cursor 0 was b'a' and is b'b' now"):
            ledger.was_delivered(QUEUE, 0, b"b")

    def test_moved(self) -> None:
        ledger = self.ledger(b"a")
        ledger.was_acknowledged(QUEUE, 0, b"a")
        with pytest.raises(Violation, match=r"acknowledged at .* and again at"):
            ledger.was_acknowledged(QUEUE, 5, b"a")

    def test_acknowledged_here_and_stored_there(self) -> None:
        ledger = self.ledger(b"a")
        ledger.was_acknowledged(QUEUE, 0, b"a")
        with pytest.raises(Violation, match="an item was lost"):
            ledger.check_contents({OTHER: [b"a"]})

    def test_stored_twice(self) -> None:
        with pytest.raises(Violation, match="a retry was stored twice"):
            self.ledger(b"a").check_contents({QUEUE: [b"a", b"a"]})

    def test_out_of_order(self) -> None:
        with pytest.raises(Violation, match=r"item 0 of lane .* comes after item 1"):
            self.ledger(b"a", b"b").check_contents({QUEUE: [b"b", b"a"]})

    def test_lanes_are_independent(self) -> None:
        ledger = self.ledger(b"a", b"b")
        ledger.offered((2, 0), 0, b"x", 1)
        ledger.check_contents({QUEUE: [b"a", b"x", b"b"]})

    def test_refused_and_stored(self) -> None:
        ledger = self.ledger(b"a")
        ledger.was_refused(b"a")
        with pytest.raises(Violation, match="its producer was told it was not stored"):
            ledger.check_contents({QUEUE: [b"a"]})

    def test_delivered_to_the_wrong_group(self) -> None:
        ledger = self.ledger(b"a", mask=0b01)
        ledger.was_delivered(QUEUE, 0, b"a", 0b01)
        with pytest.raises(Violation, match="was delivered to 0x2"):
            ledger.was_delivered(QUEUE, 0, b"a", 0b10)

    def test_never_delivered(self) -> None:
        with pytest.raises(Violation, match=r"group 0x1 never got b'b' at cursor 1"):
            self.ledger(b"a", b"b").check_delivered(QUEUE, 1, [b"a", b"b"], {0: b"a"})

    def test_more_than_its_share(self) -> None:
        ledger = self.ledger(b"a", mask=0b01)
        ledger.offered((2, 0), 0, b"b", 0b10)
        ledger.check_delivered(QUEUE, 0b01, [b"a", b"b"], {0: b"a"})
        with pytest.raises(Violation, match="got more than the queue holds for it"):
            ledger.check_delivered(QUEUE, 0b01, [b"a", b"b"], {0: b"a", 1: b"b"})

    def test_offering_twice_is_a_mistake_of_the_test(self) -> None:
        with pytest.raises(ValueError, match="offered twice"):
            self.ledger(b"a", b"a")


class TestReads:
    def test_everybody_sees_what_was_acknowledged(self) -> None:
        reads = Reads()
        reads.added(7, 0, 0, 5)
        assert reads.acknowledged_end(7) == 5
        reads.read(7, 5, 5)
        reads.read(7, 5, 9)
        reads.added(7, 5, 5, 1)

    def test_an_old_state(self) -> None:
        with pytest.raises(Violation, match="an old state was served"):
            Reads().read(7, 5, 4)

    def test_a_batch_before_what_was_acknowledged_when_it_was_sent(self) -> None:
        with pytest.raises(Violation, match="everything below 5 had been acknowledged"):
            Reads().added(7, 5, 3, 1)

    def test_concurrent_batches_may_come_in_any_order(self) -> None:
        reads = Reads()
        reads.added(7, 0, 5, 1)
        reads.added(7, 0, 0, 5)
        assert reads.acknowledged_end(7) == 6


class TestCursors:
    KEY = (7, 1)

    def test_what_is_replicated_stays(self) -> None:
        cursors = Cursors()
        cursors.asked(self.KEY, 9)
        cursors.chosen(self.KEY, (0, 5))
        cursors.replicated(self.KEY, (0, 5))
        assert cursors.replicated_floor(self.KEY) == (0, 5)
        cursors.answered(self.KEY, (0, 5), (0, 9))
        cursors.answered(self.KEY, (0, 5), (0, 5))  # a failover took back what was not replicated
        assert not cursors.settled(self.KEY, 9)
        cursors.replicated(self.KEY, (0, 9))
        assert cursors.settled(self.KEY, 9)

    def test_going_back(self) -> None:
        cursors = Cursors()
        cursors.asked(self.KEY, 9)
        with pytest.raises(Violation, match="the cursor went back"):
            cursors.answered(self.KEY, (0, 5), (0, 4))

    def test_ahead_of_the_consumers(self) -> None:
        cursors = Cursors()
        cursors.asked(self.KEY, 9)
        with pytest.raises(Violation, match="nobody had finished"):
            cursors.answered(self.KEY, (0, 0), (0, 10))

    def test_the_log_ahead_of_the_consumers(self) -> None:
        cursors = Cursors()
        cursors.asked((7, 2), 9)
        with pytest.raises(Violation, match="the log acknowledges up to 1"):
            cursors.chosen(self.KEY, (0, 1))


class TestDelays:
    def test_in_time(self) -> None:
        delays = Delays(skew=0.1)
        delays.offered(b"a", 10.0)
        delays.delivered(b"a", 1.0, 11.0)
        delays.delivered(b"a", 1.0, 10.8)  # the clocks of two nodes were off, one each way

    def test_early(self) -> None:
        delays = Delays(skew=0.1)
        delays.offered(b"a", 10.0)
        with pytest.raises(Violation, match=r"must not come before 10\.79"):
            delays.delivered(b"a", 1.0, 10.7)


# ---- the model ------------------------------------------------------------------------------------------------


def batch(
    items: Sequence[bytes], queue_id: int = 7, mask: int = 1, sequence: int = 0, count: int | None = None
) -> ItemBatch:
    header = BatchHeader(
        queue_id=queue_id,
        pub_id=1,
        consumer_group_ids=mask,
        count=len(items) if count is None else count,
        producer_id=1,
        sequence=sequence,
    )
    return ItemBatch(header=header, items=QItems(items=[QItem(buffer=item) for item in items]).SerializeToString())


def command(*batches: ItemBatch, moves: Sequence[CursorMove] = ()) -> bytes:
    return StoreCommand(version=1, timestamp_ms=5, batches=batches, cursor_moves=moves).SerializeToString()


def got(first_cursor: int, *items: bytes) -> GetBatch:
    source = batch(items)
    return GetBatch(first_cursor=first_cursor, header=source.header, items=source.items)


class TestReplays:
    KEY = (7, 1)

    def replays(self) -> Replays:
        replays = Replays()
        replays.chosen("r1", 1, 50, {7: (2, 6)})
        for cursor in (2, 3, 4):
            replays.delivered(self.KEY, 50, cursor)
        return replays

    def test_everything_for_the_group_came_again(self) -> None:
        self.replays().check_delivered(self.KEY, [0, 2, 3, 4, 6, 7])
        self.replays().check_delivered((7, 2), [5])

    def test_something_did_not(self) -> None:
        replays = self.replays()
        replays.delivered(self.KEY, 49, 5)
        with pytest.raises(Violation, match=r"from 6 to 2, and the items at \[5\] did not come again"):
            replays.check_delivered(self.KEY, [4, 5])

    def test_what_a_later_one_took_over_came_with_that(self) -> None:
        replays = self.replays()
        replays.chosen("r2", 1, 60, {7: (1, 5)})
        for cursor in range(1, 5):
            replays.delivered(self.KEY, 60, cursor)
        replays.check_delivered(self.KEY, range(9))

    def test_carried_out_twice(self) -> None:
        with pytest.raises(Violation, match="carried out twice"):
            self.replays().chosen("r1", 1, 60, {7: (2, 6)})

    def test_told_something_else(self) -> None:
        self.replays().answered("r1", {7: (2, 6)})
        with pytest.raises(Violation, match="a client was told"):
            self.replays().answered("r1", {7: (3, 6)})

    def test_a_generation_that_never_began(self) -> None:
        cursors = Cursors()
        cursors.replayed(self.KEY, (50, 2))
        cursors.answered(self.KEY, (0, 9), (50, 2))
        with pytest.raises(Violation, match="which never began"):
            cursors.answered(self.KEY, (0, 0), (51, 0))

    def test_a_group_that_was_given_up_has_nothing_to_read_below(self) -> None:
        cursors = Cursors()
        cursors.replayed(self.KEY, (50, 9))
        cursors.given_up(self.KEY, (50, 9))
        cursors.replicated(self.KEY, (50, 9))
        cursors.answered(self.KEY, (50, 9), (50, 0))
        assert cursors.place(self.KEY, (50, 0)) == 9
        assert cursors.place(self.KEY, (60, 0)) == 0

    def test_what_was_finished_before_a_skip_may_be_acknowledged_after_it(self) -> None:
        cursors = Cursors()
        cursors.asked(self.KEY, 9)
        cursors.replayed(self.KEY, (50, 5), continues=True)
        cursors.chosen(self.KEY, (50, 9))
        cursors.replayed(self.KEY, (60, 5))
        with pytest.raises(Violation, match="in generation 60, consumers asked for no more than 5"):
            cursors.chosen(self.KEY, (60, 9))

    def test_a_replay_that_was_undone(self) -> None:
        cursors = Cursors()
        cursors.asked(self.KEY, 9)
        cursors.replayed(self.KEY, (50, 2))
        for stand in ((0, 9), (50, 9)):
            with pytest.raises(Violation, match="is acknowledged in generation"):
                cursors.answered(self.KEY, (50, 2), stand)


class TestReference:
    def reference(self) -> Reference:
        reference = Reference()
        reference.chosen(
            0, 0, command(batch([b"a", b"b"], sequence=1), batch([b"c"], mask=0b10, sequence=2)), lambda queue_id: 0
        )
        return reference

    def test_cursors_are_given_in_order(self) -> None:
        self.reference().check_added(7, 0, [b"a", b"b"])
        self.reference().check_added(7, 2, [b"c"])

    def test_a_retry_is_stored_once(self) -> None:
        reference = self.reference()
        reference.chosen(0, 0, command(batch([b"a", b"b"], sequence=1), batch([b"d"], sequence=3)), lambda queue_id: 0)
        reference.check_added(7, 3, [b"d"])

    @pytest.mark.parametrize(("cursor", "items"), [(0, [b"a", b"x"]), (1, [b"a"]), (2, [b"c", b"d"]), (9, [b"a"])])
    def test_acknowledged_but_not_chosen_there(self, cursor: int, items: list[bytes]) -> None:
        with pytest.raises(Violation, match="are not what was chosen there"):
            self.reference().check_added(7, cursor, items)

    def test_a_header_that_miscounts(self) -> None:
        with pytest.raises(Violation, match="counts 3 items and has 2"):
            Reference().chosen(0, 0, command(batch([b"a", b"b"], count=3)), lambda queue_id: 0)

    def test_cursors_rise_and_stay_in_their_queue(self) -> None:
        reference = self.reference()
        move = CursorMove(queue_id=7, consumer_group_id=1, acked=99)
        assert reference.chosen(0, 0, command(moves=[move]), lambda queue_id: 0) == {(7, 1): (0, 3)}
        move.acked = 1
        assert reference.chosen(0, 0, command(moves=[move]), lambda queue_id: 0) == {(7, 1): (0, 3)}

    def test_a_whole_read(self) -> None:
        items = self.reference().check_read(7, 0, 0, 3, [got(0, b"a", b"b"), got(2, b"c")])
        assert items == [(0, b"a"), (1, b"b"), (2, b"c")]

    def test_a_group_gets_its_items_and_passes_over_the_others(self) -> None:
        assert self.reference().check_read(7, 0b01, 0, 3, [got(0, b"a", b"b")]) == [(0, b"a"), (1, b"b")]
        assert self.reference().check_read(7, 0b10, 0, 3, [got(2, b"c")]) == [(2, b"c")]

    def test_the_first_batch_may_begin_early(self) -> None:
        assert self.reference().check_read(7, 0b01, 1, 2, [got(0, b"a", b"b")]) == [(1, b"b")]

    @pytest.mark.parametrize(
        ("mask", "start", "end", "batches", "reason"),
        [
            (0, 0, 3, [got(0, b"a", b"b")], "cursor 2: nothing was delivered"),
            (0, 0, 2, [got(0, b"b", b"a")], "cursor 0: b'b' was delivered"),
            (0b01, 0, 3, [got(0, b"a", b"b"), got(2, b"c")], "cursor 2: b'c' was delivered"),
            (0, 2, 3, [got(0, b"a", b"b"), got(2, b"c")], "items up to 1 were delivered; asked for 2 to 3"),
            (0, 0, 2, [got(0, b"a", b"b"), got(2, b"c")], "items up to 2 were delivered; asked for 0 to 2"),
            (0, 0, 2, [got(0, b"a", b"b"), got(1, b"b")], "does not follow"),
            (0, 0, 4, [], "read up to 4, but only 3 items are stored"),
        ],
    )
    def test_bad_reads(self, mask: int, start: int, end: int, batches: list[GetBatch], reason: str) -> None:
        with pytest.raises(Violation, match=reason):
            self.reference().check_read(7, mask, start, end, batches)


class TestVersions:
    def checker(self, *installed: int, downgraded: frozenset[int] = frozenset()) -> Versions:
        return Versions(dict(enumerate(installed)), downgraded)

    def test_everybody_knows_it(self) -> None:
        checker = self.checker(2, 2, 2)
        checker.chosen(0, 5, 2)
        checker.applied(1, 0, 5, 2)

    def test_the_old_version_while_some_are_old(self) -> None:
        checker = self.checker(1, 2, 2)
        checker.chosen(0, 5, 1)
        checker.applied(0, 0, 5, 1)

    def test_a_new_command_while_some_are_old(self) -> None:
        with pytest.raises(Violation, match=r"nodes \[0\] run programs that do not know it"):
            self.checker(1, 2, 2).chosen(0, 5, 2)

    def test_a_program_that_applies_what_it_does_not_know(self) -> None:
        with pytest.raises(Violation, match="node 0 applied a command of version 2"):
            self.checker(1, 2, 2).applied(0, 0, 5, 2)

    def test_nobody_waits_for_a_node_that_went_back(self) -> None:
        self.checker(1, 2, 2, downgraded=frozenset({0})).chosen(0, 5, 2)
