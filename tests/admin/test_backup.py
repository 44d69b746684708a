"""Copies of a store: what is taken, and what is found wrong with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from phxqueue.admin.backup import files
from phxqueue.admin.backup.checking import check_group, completeness, machine_of
from phxqueue.admin.backup.files import read_manifest
from phxqueue.admin.backup.store_copy import StoreCopy, choose
from phxqueue.admin.backup.taking import ATTEMPTS, RETRY_S, finished
from phxqueue.admin.errors import AdminError
from phxqueue.admin.node_status import NodeReport
from phxqueue.config import Topic, load_cluster
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.backup_pb2 import BackupOpenRequest
from phxqueue.proto.paxos_pb2 import CheckpointReadRequest, LogReadRequest, PaxosEntry
from phxqueue.proto.status_pb2 import GroupStatus, NodeStatusResponse
from tests.admin.backups import CopiedNode, copy_group, make_backup, unavailable
from tests.admin.conftest import Invoke
from tests.replica.fakes import outcome


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "backup"
    made.mkdir()
    return made


# ---- taking ------------------------------------------------------------------------------------------------


def test_the_copy_of_a_group_is_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phxqueue.admin.backup.taking.ENTRIES_FILE_BYTES", 1000)
    node = CopiedNode()
    node.fill(100)
    record = outcome(copy_group(root, node, Clock(), confirmed=99))
    assert (record.applied, record.needed, record.entries, record.confirmed) == (99, 0, 100, 99)
    assert len(record.files) > 10
    checked = check_group(root, record)
    assert checked.problems == []
    assert checked.queues == 3
    assert checked.items == sum(index.end_cursor for index in node.machine.queues.values())
    assert machine_of(root, record).state_hash() == node.machine.state_hash()
    assert finished(root, 0) == record


def test_an_empty_group_can_be_copied(root: Path) -> None:
    record = outcome(copy_group(root, CopiedNode(), Clock(), confirmed=-1))
    assert (record.applied, record.entries) == (-1, 0)
    assert check_group(root, record).problems == []


@pytest.mark.parametrize("what", [CheckpointReadRequest, LogReadRequest])
def test_what_is_damaged_on_its_way_is_not_taken(root: Path, what: type[Any]) -> None:
    node, clock = CopiedNode(), Clock()
    node.fill(50)
    struck = []

    def spoil(request: Any, answer: Any) -> Any:
        if isinstance(request, what) and len(struck) < 2:
            struck.append(request)
            if isinstance(request, LogReadRequest):
                answer.entries[3].payload = b"X"
            else:
                answer.data = b"X" + answer.data[1:]
        return answer

    node.spoil = spoil
    copied = copy_group(root, node, clock)
    for _ in struck:
        assert outcome(copied) is None
        clock.advance(RETRY_S)
    record = outcome(copied)
    assert len(struck) == 2
    assert check_group(root, record).problems == []


def test_what_is_trimmed_meanwhile_is_copied_anew(root: Path) -> None:
    node, clock = CopiedNode(), Clock()
    node.fill(50)

    def spoil(request: Any, answer: Any) -> Any:
        if isinstance(request, LogReadRequest) and request.first > 20 and not node.log_first:
            node.log_first = 30
            return node._log(request)
        return answer

    node.spoil = spoil
    copied = copy_group(root, node, clock)
    clock.advance(RETRY_S)
    assert outcome(copied).needed == 30


def test_a_node_that_lags_is_not_taken_for_complete(root: Path) -> None:
    node, clock = CopiedNode(), Clock()
    node.fill(50)
    copied = copy_group(root, node, clock, confirmed=60)
    assert outcome(copied) is None
    node.fill(20)
    clock.advance(RETRY_S)
    assert outcome(copied).applied == 69


def test_it_is_given_up_when_the_node_does_not_answer(root: Path) -> None:
    node, clock = CopiedNode(), Clock()

    def spoil(request: Any, answer: Any) -> Any:
        raise unavailable("it is gone")

    node.spoil = spoil
    copied = copy_group(root, node, clock)
    clock.pump([RETRY_S] * ATTEMPTS)
    error = outcome(copied)
    assert isinstance(error, AdminError)
    assert "group 0 could not be copied from node 1: UNAVAILABLE: it is gone" in str(error)
    assert len([request for request in node.asked if isinstance(request, BackupOpenRequest)]) == ATTEMPTS


def test_a_refusal_is_not_tried_again(root: Path) -> None:
    node = CopiedNode()

    def spoil(request: Any, answer: Any) -> Any:
        raise RpcError(Status.PERMISSION_DENIED, "you may not")

    node.spoil = spoil
    assert outcome(copy_group(root, node, Clock())).status is Status.PERMISSION_DENIED


# ---- whom to ask -------------------------------------------------------------------------------------------


@pytest.fixture
def topic(cluster_directory: Path) -> Topic:
    return load_cluster(cluster_directory / "etc/globalconfig.conf").topics[0]


def reports_of(topic: Topic, *applied: int | None, master: int | None = 0, lease: float = 1.0) -> list[NodeReport]:
    store = topic.stores[0]
    found = []
    for node, instance in zip(store.nodes, applied, strict=True):
        answer = None
        if instance is not None:
            is_master = node.node_id == master
            status = GroupStatus(
                group_id=0, is_master=is_master, applied=instance, lease_remaining_s=lease if is_master else 0
            )
            answer = NodeStatusResponse(store_id=1, node_id=node.node_id, groups=[status])
        found.append(NodeReport(store, node, answer))
    return found


@pytest.mark.parametrize(
    ("applied", "wanted", "expected"),
    [
        ((9, 8, 9), None, (2, 9)),  # a follower that is level
        ((9, 8, 7), None, (0, 9)),  # nobody is: the master
        ((9, None, None), None, (0, 9)),
        ((9, 8, 9), 1, (1, 9)),  # it will have to catch up
    ],
)
def test_a_follower_that_is_level_is_copied(
    topic: Topic, applied: tuple[int, ...], wanted: int | None, expected: tuple[int, int]
) -> None:
    choice = choose(topic.stores[0], 0, reports_of(topic, *applied), wanted)
    assert (choice.node.node_id, choice.confirmed) == expected


@pytest.mark.parametrize(("master", "lease"), [(None, 0.0), (0, 0.0)])
def test_without_a_master_under_its_lease_nobody_can_vouch(topic: Topic, master: int | None, lease: float) -> None:
    reports = reports_of(topic, 9, 9, 9, master=master, lease=lease)
    with pytest.raises(AdminError, match="has no master that could say what has been acknowledged"):
        choose(topic.stores[0], 0, reports, None)
    assert choose(topic.stores[0], 0, reports, 2).confirmed is None


def test_an_unknown_node(topic: Topic) -> None:
    with pytest.raises(AdminError, match="store 1 has no node 5; it has 0, 1, 2"):
        choose(topic.stores[0], 0, reports_of(topic, 9, 9, 9), 5)


def begin(root: Path, topic: Topic) -> None:
    copy: Any = StoreCopy(root, topic, topic.stores[0], None, Clock(), node_id=None, rate=0, say=lambda line: None)  # type: ignore[arg-type]
    copy._begin()


def test_directories_that_cannot_take_a_backup(tmp_path: Path, topic: Topic) -> None:
    fresh = tmp_path / "a" / "b"
    begin(fresh, topic)
    begin(fresh, topic)  # goes on
    with pytest.raises(AdminError, match="the beginning of another backup"):
        begin(fresh, replace(topic, topic_id=7))
    complete = tmp_path / "complete"
    make_backup(complete)
    with pytest.raises(AdminError, match="holds a complete backup already"):
        begin(complete, topic)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AdminError, match="is not empty"):
        begin(tmp_path, topic)


# ---- checking ----------------------------------------------------------------------------------------------


def test_every_byte_of_every_file_counts(tmp_path: Path) -> None:
    manifest = make_backup(tmp_path / "backup")
    [group] = manifest.groups
    for record in group.files:
        path = tmp_path / "backup" / record.name
        whole = path.read_bytes()
        for at in {0, len(whole) // 2, len(whole) - 1} if whole else ():
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert check_group(tmp_path / "backup", group).problems == [
                f"{path} is damaged: its hash is not the one recorded"
            ]
        path.write_bytes(whole + b"x")
        assert "has" in check_group(tmp_path / "backup", group).problems[0]
        path.unlink()
        assert check_group(tmp_path / "backup", group).problems == [f"{path} is missing"]
        path.write_bytes(whole)
    assert check_group(tmp_path / "backup", group).problems == []


def test_hashes_alone_are_not_trusted(tmp_path: Path) -> None:
    """Somebody recorded the hashes of files that are wrong: the content is looked at as well."""
    root = tmp_path / "backup"
    [group] = make_backup(root, 40).groups
    entries = next(record for record in group.files if "entries" in record.name)
    path = root / entries.name
    kept = list(files.read_records(path, PaxosEntry.FromString))

    def rewritten(some: list[Any]) -> list[str]:
        with files.FileWriter(root, entries.name) as writer:
            for entry in some:
                writer.record(entry)
            record = writer.close()
        changed = tuple(record if file.name == record.name else file for file in group.files)
        return check_group(root, replace(group, files=changed)).problems

    assert rewritten(kept) == []
    assert "where 5 is expected" in rewritten([*kept[:5], *kept[6:]])[0]
    assert "ends at entry 38, not at 39" in rewritten(kept[:-1])[0]
    other = PaxosEntry.FromString(kept[7].SerializeToString())
    other.payload += b"\x18\x00"
    assert "entry 7 does not match its checksum" in rewritten([*kept[:7], other, *kept[8:]])[0]
    swapped = PaxosEntry.FromString(kept[8].SerializeToString())
    swapped.payload, swapped.checksum = kept[7].payload, kept[7].checksum
    assert "entry 8: has" in rewritten([*kept[:8], swapped, *kept[9:]])[0]


def test_a_missing_group(tmp_path: Path) -> None:
    manifest = make_backup(tmp_path / "backup")
    assert completeness(manifest) == []
    assert completeness(replace(manifest, paxos_groups=2)) == ["it holds the groups [0], where 2 groups are expected"]


def test_manifests(tmp_path: Path) -> None:
    manifest = make_backup(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert replace(manifest, began_at=1.0).identity != manifest.identity
    path = tmp_path / files.MANIFEST
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(AdminError, match=r"has format 2, .* use the version of PhxQueue that made it \(1.0\)"):
        read_manifest(tmp_path)
    path.write_text('{"format": 1, "groups": []}')
    with pytest.raises(AdminError, match="is damaged"):
        read_manifest(tmp_path)
    path.write_text("{")
    with pytest.raises(AdminError, match="is damaged"):
        read_manifest(tmp_path)
    path.unlink()
    with pytest.raises(AdminError, match="holds no complete backup"):
        read_manifest(tmp_path)


# ---- commands ----------------------------------------------------------------------------------------------


def test_verify_and_show(invoke: Invoke, tmp_path: Path) -> None:
    make_backup(tmp_path / "backup")
    result = invoke("backup", "verify", "backup")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("verified: 1 groups, 3 queues, ")
    result = invoke("backup", "show", "backup")
    assert "cluster local, store 1, 2023-11-14 22:13:20 UTC to 2023-11-14 22:13:21 UTC" in result.output
    assert '"applied": 99' in invoke("backup", "show", "--json", "backup").output
    state = tmp_path / "backup" / "group-00000" / "state"
    state.write_bytes(state.read_bytes()[:-1])
    result = invoke("backup", "verify", "backup")
    assert result.exit_code == 1
    assert "backup is not to be relied upon" in result.output
    assert "state has" in result.output
