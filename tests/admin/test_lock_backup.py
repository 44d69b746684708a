"""Backups of lock groups: what is copied, and data directories made from it whose tokens are above all former ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from phxqueue.admin.backup.checking import check_group
from phxqueue.admin.backup.files import Manifest
from phxqueue.admin.backup.restoring import restore
from phxqueue.admin.backup.roles import FENCE_SHIFT, QUARANTINE_MS, check_token, new_token
from phxqueue.admin.errors import AdminError
from phxqueue.config import LockNode, load_lock_node
from phxqueue.journal.journal import Journal
from phxqueue.journal.records import WantedIdentity
from phxqueue.lock.table import LockTable
from phxqueue.paxos.entry import entry_checksum
from phxqueue.proto.lock_pb2 import LockCommand, LockOperation
from phxqueue.replica.checkpoint_table import CheckpointTable
from tests.admin.backups import NOW, CopiedNode, backup_of
from tests.admin.conftest import Invoke
from tests.stand_ins import VALUE

LATER = NOW + 3600.0
LOCKS = 5000


class CopiedLockNode(CopiedNode):
    """Node 1 of lock group 1: locks and strings, more than one segment of them."""

    def __init__(self, lease_ms: int = 5000) -> None:
        super().__init__()
        self.machine = LockTable()  # type: ignore[assignment]
        self._apply(LockCommand(version=1, begins_term=True))
        kinds = LockOperation.Kind
        for number in range(0, LOCKS, 100):
            names = range(number, number + 100)
            locks = [
                LockOperation(kind=kinds.ACQUIRE, key=f"{name}", client_id="me", lease_ms=lease_ms) for name in names
            ]
            self._apply(LockCommand(version=1, term=self.machine.term, operations=locks))  # type: ignore[attr-defined]
        write = LockOperation(kind=kinds.SET, key="s", value=b"said")
        self._apply(LockCommand(version=1, term=self.machine.term, operations=[write]))  # type: ignore[attr-defined]
        self.log_first = self.machine.applied + 1

    def _apply(self, command: LockCommand) -> None:
        self.machine.apply(self.machine.applied + 1, VALUE, command.SerializeToString())


@pytest.fixture
def node(owned_cluster_directory: Path) -> LockNode:
    node = load_lock_node(owned_cluster_directory / "etc/lock.0.conf")
    journal = node.journal.model_copy(update={"min_free_bytes": 0, "log_file_bytes": 1 << 20, "cache_bytes": 2 << 20})
    return replace(node, data_dir=owned_cluster_directory / "data", journal=journal)


async def restored(root: Path, manifest: Manifest, node: LockNode, token: int, now: float = LATER) -> LockTable:
    """Make the node's directory, and read the table that it begins with."""
    await restore(root, manifest, node, token, reactor, say=lambda line: None, wall=lambda: now)
    journal = Journal.open(
        node.data_dir,
        WantedIdentity("local", 1, node.node.node_id, 1, "lock"),
        node.journal,
        reactor,
        lambda reason: None,
        verify=lambda kind, payload, checksum: entry_checksum(kind, payload) == checksum,
    )
    try:
        table = LockTable()
        CheckpointTable(journal, 0).restore(table)
        group = journal.load_group(0)
        for _, entry in await journal.read_entries(0, table.applied + 1, group.chosen, 1 << 20):
            table.apply(table.applied + 1, entry.kind, entry.payload)
        assert table.applied == group.chosen
        return table
    finally:
        await journal.close()


def next_version(table: LockTable) -> int:
    table.apply(table.applied + 1, VALUE, LockCommand(version=1, begins_term=True).SerializeToString())
    taken = LockOperation(kind=LockOperation.ACQUIRE, key="new", client_id="you", lease_ms=1000, force=True)
    command = LockCommand(version=1, term=table.term, operations=[taken])
    outcomes = table.apply(table.applied + 1, VALUE, command.SerializeToString())
    assert isinstance(outcomes, list)
    assert outcomes[0].record is not None
    return outcomes[0].record.version


def test_a_copy_has_every_lock_and_string(tmp_path: Path) -> None:
    manifest = backup_of(CopiedLockNode(), tmp_path / "backup", "lock")
    [group] = manifest.groups
    checked = check_group(tmp_path / "backup", group, "lock")
    assert (checked.problems, checked.locks, checked.strings) == ([], LOCKS, 1)
    assert (checked.longest_lease_ms, group.entries) == (5000, 0)
    assert group.segments > 1
    assert manifest.name == "lock group 1"


def test_damage_is_found_beneath_right_hashes(tmp_path: Path) -> None:
    root = tmp_path / "backup"
    manifest = backup_of(CopiedLockNode(), root, "lock")
    [group] = manifest.groups
    lagging = replace(group, applied=group.applied + 1, needed=group.needed + 1)
    assert "its table is as of instance" in check_group(root, lagging, "lock").problems[0]
    path = root / "group-00000" / "segments"
    path.write_bytes(path.read_bytes()[:-100])
    assert "segments has" in check_group(root, group, "lock").problems[0]


@pytest_twisted.ensureDeferred
async def test_tokens_of_a_restored_group_are_above_all_that_it_could_have_given(
    tmp_path: Path, node: LockNode
) -> None:
    source = CopiedLockNode()
    manifest = backup_of(source, tmp_path / "backup", "lock")
    token = new_token("lock", LATER, 7)
    table = await restored(tmp_path / "backup", manifest, node, token)
    assert (len(table.locks), len(table.strings), table.quarantine_ms) == (LOCKS, 1, QUARANTINE_MS)
    # An hour at 10,000 entries a second, after the backup:
    assert next_version(table) > token > source.machine.applied + 3600 * 10_000 << 16


@pytest_twisted.ensureDeferred
async def test_the_same_backup_restored_again_gives_no_token_a_second_time(tmp_path: Path, node: LockNode) -> None:
    manifest = backup_of(CopiedLockNode(), tmp_path / "backup", "lock")
    first = await restored(tmp_path / "backup", manifest, node, new_token("lock", LATER, (1 << 64) - 1))
    given = [next_version(first) for _ in range(100)]
    again = replace(node, data_dir=tmp_path / "again")
    second = await restored(tmp_path / "backup", manifest, again, new_token("lock", LATER + 1, 0), LATER + 1)
    assert next_version(second) > max(given)


@pytest_twisted.ensureDeferred
async def test_all_nodes_of_one_restore_begin_alike(tmp_path: Path, node: LockNode) -> None:
    manifest = backup_of(CopiedLockNode(lease_ms=120_000), tmp_path / "backup", "lock")
    token = new_token("lock", LATER, 5)
    first = await restored(tmp_path / "backup", manifest, node, token)
    other = replace(node, data_dir=tmp_path / "other")
    second = await restored(tmp_path / "backup", manifest, other, token, LATER + 600)
    assert first.state_hash() == second.state_hash()
    assert first.quarantine_ms == 120_000


@pytest_twisted.ensureDeferred
async def test_a_node_that_joins_begins_no_other_life(tmp_path: Path, node: LockNode) -> None:
    source = CopiedLockNode()
    manifest = backup_of(source, tmp_path / "backup", "lock")
    table = await restored(tmp_path / "backup", manifest, node, 0)
    assert table.state_hash() == source.machine.state_hash()


@pytest_twisted.ensureDeferred
async def test_a_clock_behind_the_backup_and_a_token_that_is_no_fence_are_refused(
    tmp_path: Path, node: LockNode
) -> None:
    manifest = backup_of(CopiedLockNode(), tmp_path / "backup", "lock")
    with pytest.raises(AdminError, match="the clock of this machine is behind the backup's"):
        await restored(tmp_path / "backup", manifest, node, new_token("lock", LATER, 1), NOW - 60)
    for token in (0xABCD, new_token("lock", NOW - 60, 1)):
        with pytest.raises(AdminError, match="is not that of the restore of a lock group"):
            await restored(tmp_path / "backup", manifest, node, token)


def test_a_token_below_what_the_group_has_given_is_refused(tmp_path: Path) -> None:
    manifest = backup_of(CopiedLockNode(), tmp_path / "backup", "lock")
    checked = check_group(tmp_path / "backup", manifest.groups[0], "lock")
    checked.highest_version = new_token("lock", LATER, 9)  # of an earlier restore, by a clock that was ahead
    with pytest.raises(AdminError, match="versions would be given a second time"):
        check_token("lock", checked.highest_version, LATER, manifest.ended_at, checked)
    assert new_token("lock", 4e9, (1 << 64) - 1) < 1 << 63, "until the year 2096"
    assert FENCE_SHIFT > 16


def test_a_store_node_is_not_made_from_the_backup_of_a_lock_group(invoke: Invoke, tmp_path: Path) -> None:
    backup_of(CopiedLockNode(), tmp_path / "backup", "lock")
    result = invoke("restore", str(tmp_path / "backup"), "--whole-group", "--node", "etc/store.0.conf")
    assert result.exit_code == 1
    assert "store.0.conf is the file of store 1, the backup is of a lock group" in result.output


def test_the_commands_verify_and_show_it(invoke: Invoke, tmp_path: Path) -> None:
    backup_of(CopiedLockNode(), tmp_path / "backup", "lock")
    result = invoke("backup", "verify", str(tmp_path / "backup"))
    assert "verified: 1 groups, 5000 locks, 1 strings; every hash and checksum is right" in result.output
    assert "cluster local, lock group 1," in invoke("backup", "show", str(tmp_path / "backup")).output


def test_a_backup_is_of_one_store_or_one_lock_group(invoke: Invoke) -> None:
    assert "give --store or --lock" in invoke("backup", "create", "copy", "--store", "1", "--lock", "1").output
    assert "has no lock group 7; it has none" in invoke("backup", "create", "copy", "--lock", "7").output
