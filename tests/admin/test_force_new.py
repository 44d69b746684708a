"""What a log is ended with when one node goes on alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from phxqueue.admin.errors import AdminError
from phxqueue.admin.force_new import ending, refuse_while_alive
from phxqueue.admin.node_status import NodeReport
from phxqueue.config import load_store_node
from phxqueue.journal.records import PutBlob, PutChosen, PutEntry, StoredEntry
from phxqueue.paxos.config import GroupConfig, Member
from phxqueue.paxos.entry import EntryKind, make_entry
from phxqueue.paxos.membership import Membership
from phxqueue.proto.status_pb2 import NodeStatusResponse
from phxqueue.proto.store_pb2 import StoreCommand

WINDOW, BALLOT, LINEAGE = 8, 5 << 16 | 1, 77
MEMBERS = (Member(0), Member(1), Member(2))
CONFIG = GroupConfig(group_id=3, node_id=1, members=MEMBERS, incarnation=11, window=WINDOW, accept_ahead=4 * WINDOW)


def stored(kind: int, payload: bytes) -> StoredEntry:
    entry = make_entry(BALLOT, kind, payload)
    return StoredEntry(entry.ballot, entry.checksum, kind, payload)


def check(tail: dict[int, StoredEntry], *, state: bytes | None = None, chosen: int = 9) -> list[PutEntry]:
    """Whoever learns the log, and the node itself from its disk, find it alone; returns what was written."""
    writes = ending(CONFIG, state, chosen, tail, BALLOT, LINEAGE)
    entries = {write.instance: write for write in writes if isinstance(write, PutEntry)}
    [last] = [write.instance for write in writes if isinstance(write, PutChosen)]
    [kept] = [write.value for write in writes if isinstance(write, PutBlob)]
    learner = Membership(CONFIG, state, chosen)
    for instance in range(chosen + 1, last + 1):
        found = tail.get(instance) or entries[instance]
        assert (instance in tail) != (instance in entries)
        if found.kind == EntryKind.MEMBERSHIP:
            learner.chosen(instance, found.payload)
        learner.advance(instance)
    for membership in (learner, Membership(CONFIG, kept, last)):
        assert membership.current.step.members == (Member(1, incarnation=11),)
        assert membership.next is None
        assert membership.votes
        assert membership.current.quorum == 1
    assert learner.state() == kept
    return list(entries.values())


def test_everything_accepted_stays_and_gaps_are_closed() -> None:
    tail = {10: stored(0, b"ten"), 12: stored(0, b"twelve")}
    written = check(tail)
    assert [(one.instance, one.kind) for one in written[:3]] == [
        (11, EntryKind.NOOP),
        (13, EntryKind.VALUE),
        (14, EntryKind.MEMBERSHIP),
    ]
    assert StoreCommand.FromString(written[1].payload).history == LINEAGE
    assert {one.kind for one in written[3:]} == {EntryKind.NOOP}
    assert len(written[3:]) == WINDOW - 1


def test_nothing_accepted_and_an_empty_log() -> None:
    check({})
    check({}, chosen=-1)


def test_a_change_that_was_on_its_way_does_not_bring_the_others_back() -> None:
    former = Membership(CONFIG, None, 9)
    change = former.proposal((Member(0, incarnation=10), Member(1, incarnation=11), Member(2, incarnation=12)))
    check({10: stored(EntryKind.MEMBERSHIP, change)})
    former.chosen(10, change)
    check({11: stored(0, b"eleven")}, state=former.state(), chosen=10)
    former.advance(40)
    check({}, state=former.state(), chosen=40)


@pytest.mark.parametrize(
    ("up", "said"),
    [
        ((0, 1, 2), "node 0 runs: stop it first"),
        ((1, 2), "nodes 1, 2 of store 1 answer: they are a majority, and nothing is lost"),
        ((2,), "nodes 2 of store 1 run: stop them first"),
    ],
)
def test_it_is_refused_while_others_live(cluster_directory: Path, up: tuple[int, ...], said: str) -> None:
    node = load_store_node(cluster_directory / "etc/store.0.conf")
    reports = [
        NodeReport(node.store, one, NodeStatusResponse() if one.node_id in up else None) for one in node.store.nodes
    ]
    with pytest.raises(AdminError, match=said):
        refuse_while_alive(node, reports)
    refuse_while_alive(node, [NodeReport(node.store, one, None) for one in node.store.nodes])
