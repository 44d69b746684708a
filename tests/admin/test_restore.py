"""Data directories made from a backup."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from phxqueue.admin.backup.files import Manifest
from phxqueue.admin.backup.restoring import ROUNDS_AHEAD, Restored, restore
from phxqueue.admin.errors import AdminError
from phxqueue.config import StoreNode, load_store_node
from phxqueue.journal.errors import Unusable
from phxqueue.journal.journal import Journal
from phxqueue.journal.opening import RESTORING_DIRECTORY
from phxqueue.journal.records import WantedIdentity
from phxqueue.paxos.entry import entry_checksum
from phxqueue.replica.admission import FORMATION
from phxqueue.replica.checkpoint_table import MEMBERSHIP, CheckpointTable
from phxqueue.replica.formation import Beginning
from phxqueue.store.queues import StoreQueues
from tests.admin.backups import BALLOT, CopiedNode, make_backup
from tests.admin.conftest import Invoke

TOKEN = 0xABCD


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "backup"


@pytest.fixture
def manifest(root: Path) -> Manifest:
    return make_backup(root)


@pytest.fixture
def node(cluster_directory: Path) -> StoreNode:
    node = load_store_node(cluster_directory / "etc/store.0.conf")
    journal = node.journal.model_copy(update={"min_free_bytes": 0, "log_file_bytes": 1 << 20, "cache_bytes": 2 << 20})
    return replace(node, data_dir=cluster_directory / "data", journal=journal)


async def restored(root: Path, manifest: Manifest, node: StoreNode) -> Restored:
    return await restore(root, manifest, node, TOKEN, reactor, say=lambda line: None)


def opened(node: StoreNode) -> Journal:
    return Journal.open(
        node.data_dir,
        WantedIdentity(node.cluster.name, 1, 0, 1),
        node.journal,
        reactor,
        lambda reason: None,
        verify=lambda kind, payload, checksum: entry_checksum(kind, payload) == checksum,
    )


@pytest_twisted.ensureDeferred
async def test_the_directory_has_everything_and_is_another_incarnation(
    root: Path, manifest: Manifest, node: StoreNode
) -> None:
    made = await restored(root, manifest, node)
    journal = opened(node)
    assert journal.identity.incarnation == made.incarnation != 99
    group = journal.load_group(0)
    assert (group.first, group.chosen, group.entries) == (0, 100, [])
    assert group.promised >> 16 == (BALLOT >> 16) + ROUNDS_AHEAD
    beginning = Beginning.decode(dict(journal.load_blobs(FORMATION))[b"beginning"])
    assert beginning == Beginning(TOKEN, {0: (group.promised, 100)})
    machine, source = StoreQueues(), CopiedNode()
    CheckpointTable(journal, 0).restore(machine)
    source.fill(100)
    assert machine.state_hash() == source.machine.state_hash()
    entries = [entry for _, entry in await journal.read_entries(0, 0, 100, 1 << 30)]
    assert [entry.payload for entry in entries[:100]] == [entry.payload for entry in source.entries]
    # The last one begins another history, for whoever has the state and for whoever learns the log.
    learner = StoreQueues()
    for instance, entry in enumerate(entries):
        learner.apply(instance, entry.kind, entry.payload)
    machine.apply(100, entries[100].kind, entries[100].payload)
    assert (machine.history, learner.state_hash()) == (TOKEN, machine.state_hash())
    checkpoint, again = learner.checkpoint(), StoreQueues()
    again.restore(checkpoint.state, checkpoint.segments)
    assert (again.history, again.state_hash()) == (TOKEN, machine.state_hash())
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_one_that_joins_a_store_that_lives(root: Path, manifest: Manifest, node: StoreNode) -> None:
    [group] = manifest.groups
    manifest = replace(manifest, lineage=7, groups=(replace(group, membership="0102"),))
    await restore(root, manifest, node, 0, reactor, say=lambda line: None)
    journal = opened(node)
    assert journal.load_group(0).promised == BALLOT
    noted = dict(journal.load_blobs(FORMATION))
    assert noted == {b"node": b"fresh", b"lineage": (7).to_bytes(8, "big")}
    assert [value for _, value in journal.load_blobs(MEMBERSHIP)] == [b"\x01\x02"]
    machine = StoreQueues()
    CheckpointTable(journal, 0).restore(machine)
    assert machine.history == 0
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_an_interrupted_restore_does_not_look_like_a_node_and_can_be_repeated(
    root: Path, manifest: Manifest, node: StoreNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("phxqueue.admin.backup.restoring._fill_group", full)
        with pytest.raises(OSError, match="No space"):
            await restored(root, manifest, node)
    assert (node.data_dir / RESTORING_DIRECTORY / "db").exists()
    with pytest.raises(Unusable, match="a restore from a backup is under way, or was interrupted"):
        opened(node)
    await restored(root, manifest, node)
    assert not (node.data_dir / RESTORING_DIRECTORY).exists()
    await opened(node).close()


@pytest_twisted.ensureDeferred
async def test_a_disk_that_fails_ends_the_restore(
    root: Path, manifest: Manifest, node: StoreNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(root: Path, group: Any, first: Any, journal: Journal) -> None:
        journal._fail("No space left on device")
        await Deferred()  # as what waits for the disk then: for ever

    monkeypatch.setattr("phxqueue.admin.backup.restoring._fill_group", failing)
    with pytest.raises(AdminError, match="No space left on device"):
        await restored(root, manifest, node)
    with pytest.raises(Unusable, match="was interrupted"):
        opened(node)


@pytest_twisted.ensureDeferred
async def test_nothing_is_ever_overwritten(root: Path, manifest: Manifest, node: StoreNode) -> None:
    await restored(root, manifest, node)
    with pytest.raises(AdminError, match=r"is not empty \(NODE, db, \.\.\.\): a restore never overwrites"):
        await restored(root, manifest, node)
    (node.data_dir / RESTORING_DIRECTORY).mkdir()
    with pytest.raises(AdminError, match="interrupted at its very end"):
        await restored(root, manifest, node)


@pytest_twisted.ensureDeferred
async def test_a_damaged_backup_is_refused(root: Path, manifest: Manifest, node: StoreNode) -> None:
    path = root / "group-00000" / "entries-000000"
    whole = path.read_bytes()
    path.write_bytes(whole[:1000] + b"\0" + whole[1001:])
    with pytest.raises(AdminError, match="entries-000000 is damaged: its hash is not the one recorded: use another"):
        await restored(root, manifest, node)
    with pytest.raises(Unusable, match="was interrupted"):
        opened(node)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"set_id": 2}, "it is a backup of store 2, the node is of store 1"),
        ({"cluster": "other"}, "it is of cluster 'other', the node of 'local'"),
        ({"paxos_groups": 3}, "it has 3 Paxos groups, the configuration says 1"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_backup_of_something_else_is_refused(
    root: Path, manifest: Manifest, node: StoreNode, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(AdminError, match=said):
        await restored(root, replace(manifest, **change), node)
    assert not node.data_dir.exists()


def test_the_command_insists_on_what_it_must_know(invoke: Invoke, manifest: Manifest, root: Path) -> None:
    result = invoke("restore", str(root), "--node", "etc/store.0.conf")
    assert result.exit_code == 1
    assert "say --whole-store" in result.output
    for token in ("0", "xyz", "1" * 17):
        result = invoke("restore", str(root), "--node", "etc/store.0.conf", "--whole-store", "--token", token)
        assert f"--token {token}: it is not the hexadecimal number" in result.output


def test_a_lock_node_is_not_made_from_the_backup_of_a_store(
    invoke: Invoke, manifest: Manifest, root: Path, owned_cluster_directory: Path
) -> None:
    node_file = owned_cluster_directory / "etc" / "lock.0.conf"
    result = invoke("restore", str(root), "--whole-store", "--node", str(node_file))
    assert result.exit_code == 1
    assert "lock.0.conf is the file of lock group 1, the backup is of a store" in result.output
