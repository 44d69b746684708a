"""Live reload: a whole new snapshot, or the old one and the reasons.

A process that is told to reload (SIGHUP) calls :func:`reload` with the snapshot it runs on. ConfigError: it keeps
that one and logs the text. Otherwise it runs on the new snapshot, in which everything marked live is in force,
and logs what else changed and waits for a restart. Which is which stands in docs/configuration.md, from the same
models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from phxqueue.config.certificates import TlsPaths
from phxqueue.config.cluster import (
    Cluster,
    Consumer,
    ConsumerGroup,
    FreqInfo,
    LockGroup,
    NodeAddress,
    Pub,
    QueueInfo,
    ReplayInfo,
    SkipInfo,
    Store,
    Topic,
)
from phxqueue.config.fields import Restart, note
from phxqueue.config.files import (
    ConsumerEntry,
    ConsumerGroupEntry,
    ConsumersFile,
    FreqInfoEntry,
    GlobalFile,
    LockEntry,
    QueueInfoEntry,
    ReplayInfoEntry,
    ReplicaAddr,
    SkipInfoEntry,
    StoreEntry,
    TlsBlock,
    TopicFile,
    TopicSection,
)
from phxqueue.config.loading import (
    load_cluster,
    load_consumer_node,
    load_lock_node,
    load_scheduler_node,
    load_store_node,
)
from phxqueue.config.node_files import ConsumerNodeFile, LockNodeFile, SchedulerNodeFile, StoreNodeFile
from phxqueue.config.nodes import ConsumerNode, LockNode, ReplicaProcess, SchedulerNode, StoreNode
from phxqueue.config.problems import ConfigError, Problem, Report
from phxqueue.config.pub_entry import PubEntry
from phxqueue.config.schema import Block

SnapshotT = TypeVar("SnapshotT", Cluster, StoreNode, LockNode, SchedulerNode, ConsumerNode)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two snapshots. None: it was not there before, or is there no longer."""

    field: str
    old: object
    new: object
    restart: Restart

    def __str__(self) -> str:
        if self.old is None or self.new is None:
            return f"{self.field} {'added' if self.old is None else 'removed'}"
        return f"{self.field}: {self.old} → {self.new}"


@dataclass(frozen=True, slots=True)
class Reloaded(Generic[SnapshotT]):
    """The outcome of a reload: the new snapshot and all that differs."""

    snapshot: SnapshotT
    changes: tuple[Change, ...]

    @property
    def waiting(self) -> tuple[Change, ...]:
        """What takes a restart to be in force."""
        return tuple(change for change in self.changes if change.restart is not Restart.LIVE)


def reload(old: SnapshotT) -> Reloaded[SnapshotT]:
    """Read the files of a snapshot again.

    Raises ConfigError: something is wrong, or changed that never may; the old snapshot stays good.
    """
    loaders: dict[type, Callable[[Any], Any]] = {
        Cluster: load_cluster,
        StoreNode: load_store_node,
        LockNode: load_lock_node,
        SchedulerNode: load_scheduler_node,
        ConsumerNode: load_consumer_node,
    }
    new: SnapshotT = loaders[type(old)](old.path)
    changes = tuple(differences(old, new))
    forbidden = [change for change in changes if change.restart is Restart.NEVER]
    if forbidden:
        problems = tuple(
            Problem(
                file=old.path,
                field=change.field,
                found=f"changed from {change.old} to {change.new}",
                remedy="data that exists depends on it: change it back",
            )
            for change in forbidden
        )
        raise ConfigError("\n".join(map(str, problems)), Report(problems))
    return Reloaded(new, changes)


#: The model whose remarks hold for a part of a snapshot.
_MODELS: dict[type, type[Block]] = {
    Cluster: GlobalFile,
    Topic: TopicFile,
    QueueInfo: QueueInfoEntry,
    Pub: PubEntry,
    ConsumerGroup: ConsumerGroupEntry,
    SkipInfo: SkipInfoEntry,
    FreqInfo: FreqInfoEntry,
    ReplayInfo: ReplayInfoEntry,
    Store: StoreEntry,
    LockGroup: LockEntry,
    NodeAddress: ReplicaAddr,
    Consumer: ConsumerEntry,
    StoreNode: StoreNodeFile,
    LockNode: LockNodeFile,
    SchedulerNode: SchedulerNodeFile,
    ConsumerNode: ConsumerNodeFile,
    TlsPaths: TlsBlock,
}
#: What tells the elements of a list apart.
_KEYS: dict[type, str] = {
    Topic: "topic_name",
    QueueInfo: "queue_info_id",
    Pub: "pub_id",
    ConsumerGroup: "consumer_group_id",
    Store: "store_id",
    LockGroup: "lock_id",
    NodeAddress: "node_id",
    Consumer: "address",
}
#: Fields of snapshots that stand elsewhere in the files, or go by another name there.
_PLACES: dict[tuple[type, str], tuple[type[Block], str]] = {
    (Cluster, "name"): (GlobalFile, "cluster_name"),
    (Cluster, "topics"): (GlobalFile, "topic_infos"),
    (Topic, "topic_id"): (TopicSection, "topic_id"),
    (Topic, "handle_ids"): (TopicSection, "handle_ids"),
    (Topic, "consumers"): (ConsumersFile, "consumers"),
}
#: Not configuration, or a part of `cluster` and compared there.
_PASSED_OVER = {
    "path",
    "files",
    "warnings",
    "certificates",
    "topic",
    "store",
    "lock",
    "node",
    "consumer",
    "consumer_group_ids",
}


def differences(old: Any, new: Any, path: str = "", restart: Restart = Restart.RESTART) -> Iterator[Change]:
    """Every field that differs between two snapshots of one kind."""
    if old == new:
        return
    if type(old) is type(new) and (isinstance(old, Block) or type(old) in _MODELS):
        for name in _field_names(old):
            yield from differences(
                getattr(old, name), getattr(new, name), f"{path}.{name}" if path else name, _restart_of(old, name)
            )
    elif isinstance(old, tuple) and isinstance(new, tuple) and type(next(iter(old or new))) in _KEYS:
        key = _KEYS[type(next(iter(old or new)))]
        before, after = ({getattr(part, key): part for part in side} for side in (old, new))
        for name in [*before, *(name for name in after if name not in before)]:
            yield from differences(before.get(name), after.get(name), f"{path}[{name}]", restart)
    else:
        yield Change(path, old, new, restart)


def _field_names(part: Any) -> list[str]:
    if isinstance(part, Block):
        return list(type(part).model_fields)
    passed_over = _PASSED_OVER if isinstance(part, Cluster | ReplicaProcess | ConsumerNode) else ()
    return [field.name for field in dataclasses.fields(part) if field.name not in passed_over]


def _restart_of(part: Any, name: str) -> Restart:
    own = type(part) if isinstance(part, Block) else _MODELS[type(part)]
    model, field = _PLACES.get((type(part), name), (own, name))
    info = model.model_fields.get(field)
    return Restart(note(info, "restart")) if info is not None else Restart.RESTART
