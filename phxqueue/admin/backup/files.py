"""What lies in a backup.

```
MANIFEST.json                      what, whose, from when, every file with its hash: written last, by one rename
group-00003/state                  the state of the group's queues
group-00003/segments               records: BackupSegment
group-00003/entries-000000, ...    records: PaxosEntry, rising without a gap
group-00003/GROUP.json             this group is complete: a backup that was interrupted goes on behind it
```

A record is its length (u32, big-endian) and a protobuf message. Hashes are SHA-256, as `sha256sum` prints them.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from phxqueue.admin.errors import AdminError

FORMAT = 1
MANIFEST = "MANIFEST.json"
GROUP = "GROUP.json"
STATE = "state"
SEGMENTS = "segments"
ENTRIES = "entries-"

ENTRIES_FILE_BYTES = 64 << 20
"""A file of entries is closed when it has grown to this size: what is damaged is at most that much."""
MAX_RECORD_BYTES = 1 << 30
"""A longer record is none: the file is damaged."""

_LENGTH = struct.Struct(">I")
_PIECE_BYTES = 1 << 20

MessageT = TypeVar("MessageT", bound=Message)


class Damaged(Exception):
    """A file of a backup is not what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """One file: its path in the backup, its size and hash."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRecord:
    """One Paxos group.

    Attributes:
        node_id, incarnation: the node it was copied from.
        applied: the copy is as of this instance.
        needed: the entries needed..applied belong to it.
        confirmed: the master had applied so much when the backup began, so everything acknowledged before that is in
            the copy; None: there was no master to ask.
        taken_at: Unix seconds.
        membership: of the group at that instance, in hexadecimal; None: as configured.
    """

    group_id: int
    node_id: int
    incarnation: int
    applied: int
    needed: int
    confirmed: int | None
    segments: int
    membership: str | None
    taken_at: float
    files: tuple[FileRecord, ...]

    @property
    def entries(self) -> int:
        return self.applied + 1 - self.needed

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole backup.

    Attributes:
        began_at: Unix seconds; what was acknowledged before is in the backup, where `confirmed` says so.
        version: of the program that made it.
        lineage: which life of the set it is of.
    """

    cluster: str
    role: str
    set_id: int
    paxos_groups: int
    version: str
    began_at: float
    ended_at: float
    groups: tuple[GroupRecord, ...]
    lineage: int = 0
    format: int = field(default=FORMAT)

    @property
    def kind(self) -> str:
        """What people call such a set of replicas: "store", "lock group"."""
        return "lock group" if self.role == "lock" else self.role

    @property
    def name(self) -> str:
        """Whose backup, for people: "store 1", "lock group 1"."""
        return f"{self.kind} {self.set_id}"

    @property
    def identity(self) -> int:
        """64 bits that name this backup: another one has others."""
        digest = hashlib.sha256(_encode(asdict(self))).digest()
        return int.from_bytes(digest[:8], "big")


def group_directory(group_id: int) -> str:
    """Return the name of a group's directory."""
    return f"group-{group_id:05d}"


# ---- manifests -------------------------------------------------------------------------------------------


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """The backup is complete: say so, durably."""
    write_document(directory / MANIFEST, asdict(manifest))


def read_manifest(directory: Path) -> Manifest:
    """Raises AdminError when there is none, or none that this program understands."""
    document = read_document(directory / MANIFEST)
    if document is None:
        raise AdminError(
            f"{directory} holds no complete backup: {MANIFEST} is missing; `phxqueue backup create` goes on with one "
            "that was interrupted"
        )
    if document.get("format") != FORMAT:
        raise AdminError(
            f"{directory / MANIFEST} has format {document.get('format')}, this program reads format {FORMAT}: use the "
            f"version of PhxQueue that made it ({document.get('version', 'not said')})"
        )
    try:
        groups = tuple(group_record(group) for group in document.pop("groups"))
        return Manifest(groups=groups, **document)
    except (TypeError, KeyError) as error:
        raise AdminError(f"{directory / MANIFEST} is damaged: {error}; use another backup") from error


def group_record(document: dict[str, Any]) -> GroupRecord:
    """Return the record that a document of ours describes. Raises TypeError, KeyError."""
    files = tuple(FileRecord(**file) for file in document["files"])
    return GroupRecord(**{**document, "files": files})


def write_document(path: Path, document: dict[str, Any]) -> None:
    """Write a small file so that after any crash it is there whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(_encode(document))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def read_document(path: Path) -> dict[str, Any] | None:
    """Return what write_document wrote; None: nothing. Raises AdminError when it is damaged."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise AdminError(f"{path} is damaged: {error}; use another backup") from error
    if not isinstance(document, dict):
        raise AdminError(f"{path} is damaged: it holds no object; use another backup")
    return document


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# ---- files -------------------------------------------------------------------------------------------------


class FileWriter:
    """Writes one file of a backup; `close` makes it durable and returns its record."""

    def __init__(self, root: Path, name: str) -> None:
        self.size = 0
        self._name = name
        self._file = (root / name).open("wb")
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def record(self, message: Message) -> None:
        """Append a record."""
        data = message.SerializeToString()
        self.write(_LENGTH.pack(len(data)))
        self.write(data)

    def close(self) -> FileRecord:
        """Have it on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return FileRecord(name=self._name, bytes=self.size, sha256=self._hash.hexdigest())

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def damage(root: Path, record: FileRecord) -> str | None:
    """Say how a file differs from its record; None: it does not."""
    path = root / record.name
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != record.bytes:
                return f"{path} has {size} bytes, not {record.bytes}"
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return None if digest.hexdigest() == record.sha256 else f"{path} is damaged: its hash is not the one recorded"


def read_state(root: Path, group: GroupRecord) -> bytes:
    """Return the state of a group. Raises OSError."""
    return (root / group_directory(group.group_id) / STATE).read_bytes()


def read_records(path: Path, make: Callable[[bytes], MessageT]) -> Iterator[MessageT]:
    """Yield the records of a file. Raises Damaged, OSError."""
    with path.open("rb") as file:
        while head := file.read(_LENGTH.size):
            if len(head) < _LENGTH.size:
                raise Damaged(f"{path} ends inside a record")
            (length,) = _LENGTH.unpack(head)
            data = file.read(length) if length <= MAX_RECORD_BYTES else b""
            if len(data) != length:
                raise Damaged(f"{path} ends inside a record, or is damaged")
            try:
                yield make(data)
            except DecodeError as error:
                raise Damaged(f"{path}: a record does not parse: {error}") from error
