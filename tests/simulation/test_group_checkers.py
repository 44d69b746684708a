"""The checkers of consumer groups that come and go, each shown what it must accept and what it must not."""

from __future__ import annotations

from typing import Any

import pytest

from phxqueue.proto.store_pb2 import CreateGroup, DeleteGroup, GroupChange
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.founding import Founding
from phxqueue.testing.sim.checkers.group_life import GroupLife, Placed
from phxqueue.testing.sim.checkers.leaving import Leaving


class TestFounding:
    def founding(self, *, earliest: bool) -> Founding:
        """Queue 7: a was stored before the group was asked for, b meanwhile, c was offered after it was confirmed."""
        founding = Founding()
        for item, at in ((b"a", 1.0), (b"b", 2.0), (b"c", 5.0)):
            founding.offered(item, at)
            founding.stored([item], at + 0.5)
        founding.asked(7, 2.2, earliest=earliest)
        founding.placed(7, 10, 0 if earliest else 1)
        founding.created(7, 4.0)
        return founding

    @pytest.mark.parametrize(
        ("earliest", "received"), [(False, {2: b"c"}), (False, {1: b"b", 2: b"c"}), (True, {0: b"a", 1: b"b", 2: b"c"})]
    )
    def test_as_it_should_be(self, earliest: bool, received: dict[int, bytes]) -> None:
        founding = self.founding(earliest=earliest)
        founding.received(7, 10, received)
        founding.check_contents({7: [b"a", b"b", b"c"], 8: [b"d"]})

    @pytest.mark.parametrize(
        ("earliest", "received", "complaint"),
        [
            (False, {}, "did not come"),
            (True, {1: b"b", 2: b"c"}, "did not come"),
            (False, {0: b"a", 2: b"c"}, "was there before"),
            (False, {2: b"x"}, "b'x' was delivered, b'c' is there"),
        ],
    )
    def test_not_so(self, earliest: bool, received: dict[int, bytes], complaint: str) -> None:
        founding = self.founding(earliest=earliest)
        founding.received(7, 10, received)
        with pytest.raises(Violation, match=complaint):
            founding.check_contents({7: [b"a", b"b", b"c"]})

    def test_created_again_it_is_another_one(self) -> None:
        founding = self.founding(earliest=False)
        founding.received(7, 10, {2: b"c"})
        founding.deleting(7)
        founding.check_contents({7: [b"a", b"b", b"c"]})
        founding.deleted(7)
        founding.asked(7, 6.0, earliest=True)
        founding.placed(7, 20, 1)
        founding.created(7, 6.5)
        founding.received(7, 20, {1: b"b"})
        with pytest.raises(Violation, match="b'c' did not come"):
            founding.check_contents({7: [b"a", b"b", b"c"]})
        founding.received(7, 20, {2: b"c"})
        founding.check_contents({7: [b"a", b"b", b"c"]})

    def test_who_is_answered(self) -> None:
        founding = self.founding(earliest=True)
        before = founding.expect(7)
        with pytest.raises(Violation, match="was refused that had been created"):
            founding.refused(7, before)
        founding.answered(7, before)
        founding.deleting(7)
        founding.deleted(7)
        founding.answered(7, before)
        founding.refused(7, before)
        after = founding.expect(7)
        founding.refused(7, after)
        with pytest.raises(Violation, match="was answered that had been deleted"):
            founding.answered(7, after)
        founding.asked(7, 7.0, earliest=True)
        founding.answered(7, after)


class TestLeaving:
    def test_only_who_has_left_leaves(self) -> None:
        leaving = Leaving(grace=1.5, skew=0.2)
        with pytest.raises(Violation, match="said to have left"):
            leaving.leaves(7)
        leaving.out(7, 10.0)
        leaving.leaves(7)

    def test_the_grace_time(self) -> None:
        leaving = Leaving(grace=1.5, skew=0.2)
        leaving.out(7, 10.0)
        leaving.out(7, 10.4)
        leaving.given_up(7, 11.2, 11.2)
        with pytest.raises(Violation, match=r"given up 1\.000 s after it left"):
            leaving.given_up(7, 11.0, 11.0)

    def test_who_is_back_stays(self) -> None:
        leaving = Leaving(grace=1.5, skew=0.2)
        leaving.out(7, 10.0)
        leaving.back(7, 12.0)
        leaving.given_up(7, 14.0, 12.4)  # proposed by a clock that is ahead, when some file was still without it
        with pytest.raises(Violation, match=r"back in all of them since 12\.000"):
            leaving.given_up(7, 14.0, 12.5)


class TestGroupLife:
    QUEUE, GROUP = 3, 5
    KEY = (3, 5)

    def change(self, life: GroupLife, clock: int = 0, end: int = 9, first: int = 2, **fields: Any) -> list[Placed]:
        change = GroupChange(consumer_group_id=self.GROUP, queue_ids=[self.QUEUE], **fields)
        return life.change(0, change, clock, lambda queue_id: end, lambda queue_id: first)

    @pytest.mark.parametrize(("start_ms", "place"), [(0, 2), (1, 9)])
    def test_created_and_deleted(self, start_ms: int, place: int) -> None:
        acked: dict[tuple[int, int], int] = {}
        life = GroupLife(acked)
        create = CreateGroup(pub_ids=[1], start_ms=start_ms)
        assert self.change(life, create=create) == [Placed(self.KEY, place, place, given_up=False)]
        assert self.change(life, create=create) == []
        assert acked == {self.KEY: place}
        assert self.change(life, end=12, delete=DeleteGroup()) == [Placed(self.KEY, place, 12, given_up=True)]
        assert self.change(life, end=12, delete=DeleteGroup()) == []
        assert acked == {self.KEY: 12}

    def test_nothing_is_placed_in_an_empty_queue(self) -> None:
        life = GroupLife({})
        assert self.change(life, end=0, create=CreateGroup(pub_ids=[1])) == []

    def test_given_up_when_its_time_has_come_and_it_is_not_back(self) -> None:
        life = GroupLife({self.KEY: 4})
        life.stands(self.KEY)
        self.change(life, leave_until_ms=100)
        self.change(life, leave_until_ms=50)
        assert life.leaving == {self.KEY: 100}
        gone = DeleteGroup(left=True)
        assert self.change(life, clock=99, delete=gone) == []
        self.change(life, stay=True)
        assert self.change(life, clock=100, delete=gone) == []
        self.change(life, leave_until_ms=100)
        assert self.change(life, clock=100, delete=gone) == [Placed(self.KEY, 4, 9, given_up=True, left=True)]
        assert life.leaving == {}
