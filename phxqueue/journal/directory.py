"""The data directory around the database: who may use it, whose it is, in which format.

- `LOCK` is locked (flock) for as long as the journal is open, and names the process.
- `NODE` is the format version and the identity, readable by people. The same identity lies inside the database; the
  file is written last when a directory is made. So a directory whose database was taken away and whose `NODE` stayed
  is noticed: it must not come back as the old incarnation with everything forgotten.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from pathlib import Path

from phxqueue.journal.errors import START_OVER, Corrupt, DirectoryLocked, FormatVersion, Unusable, WrongIdentity
from phxqueue.journal.layout import FORMAT_VERSION
from phxqueue.journal.records import NodeIdentity, WantedIdentity

NODE_FILE = "NODE"
LOCK_FILE = "LOCK"
INCARNATION_BITS = 63
_STORE = "store"

_REMEDY = (
    "when it is the file NODE, remove it: it is written again from the database beside it; when it is the database, "
    + START_OVER
)


class DirectoryLock:
    """Holds the exclusive lock of a data directory until `release`."""

    def __init__(self, directory: Path) -> None:
        """Make the directory when it is missing and lock it. Raises DirectoryLocked, Unusable."""
        self._path = directory / LOCK_FILE
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unusable(
                f"data directory {directory} cannot be used: {error.strerror}; "
                "check that it is a directory and that this user may write to it"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            pid = self._holder()
            os.close(self._fd)
            who = f"process {pid}" if pid else "another process"
            raise DirectoryLocked(
                f"data directory {directory} is in use by {who}: stop it, or give this node its own directory", pid
            ) from None
        except OSError as error:
            os.close(self._fd)
            raise Unusable(
                f"data directory {directory} cannot be locked: {error.strerror}; check the disk, then start again"
            ) from error

    def _holder(self) -> int:
        text = os.pread(self._fd, 32, 0).strip()
        return int(text) if text.isdigit() else 0

    def release(self) -> None:
        """Let another process use the directory."""
        os.close(self._fd)


def new_identity(wanted: WantedIdentity) -> NodeIdentity:
    """Make the identity of a fresh directory: a new incarnation."""
    incarnation = secrets.randbelow((1 << INCARNATION_BITS) - 1) + 1
    return NodeIdentity(wanted.cluster, wanted.store_id, wanted.node_id, incarnation, wanted.role)


def encode_identity(identity: NodeIdentity, paxos_groups: int) -> bytes:
    """Return the text of the NODE file, also kept inside the database."""
    # A store's directory says nothing of its role: so it was before there were others.
    role = {} if identity.role == _STORE else {"role": identity.role}
    fields = {
        "format": FORMAT_VERSION,
        "cluster": identity.cluster,
        **role,
        "store_id": identity.store_id,
        "node_id": identity.node_id,
        "paxos_groups": paxos_groups,
        "incarnation": identity.incarnation,
    }
    return (json.dumps(fields, indent=1) + "\n").encode()


def check_identity(text: bytes, where: Path, wanted: WantedIdentity) -> NodeIdentity:
    """Parse an identity and compare it with the wanted one. Raises FormatVersion, WrongIdentity, Corrupt."""
    try:
        fields = json.loads(text)
        version = fields["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{where} does not say whose data this is ({error}): {_REMEDY}") from error
    if version != FORMAT_VERSION:
        raise FormatVersion(
            f"{where} is in format {version}, this version of PhxQueue reads format {FORMAT_VERSION}: "
            "run the version that wrote it"
        )
    try:
        identity = NodeIdentity(
            str(fields["cluster"]),
            int(fields["store_id"]),
            int(fields["node_id"]),
            int(fields["incarnation"]),
            str(fields.get("role", _STORE)),
        )
        groups = int(fields["paxos_groups"])
        found = WantedIdentity(identity.cluster, identity.store_id, identity.node_id, groups, identity.role)
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{where} does not say whose data this is ({error!r}): {_REMEDY}") from error
    if found != wanted:
        raise WrongIdentity(
            f"{where} holds the data of {_describe(found)}, but this is {_describe(wanted)}: "
            "correct the node's file, or give this node its own directory"
        )
    return identity


def _describe(node: WantedIdentity) -> str:
    groups = "1 Paxos group" if node.paxos_groups == 1 else f"{node.paxos_groups} Paxos groups"
    replica_set = f"{'lock group' if node.role == 'lock' else node.role} {node.store_id}"
    return f"node {node.node_id} of {replica_set} of cluster {node.cluster!r} ({groups})"


def read_node_file(directory: Path) -> bytes | None:
    """Return the content of the NODE file, None when there is none. Raises Unusable."""
    try:
        return (directory / NODE_FILE).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unusable(f"{directory / NODE_FILE} cannot be read: {error.strerror}") from error


def write_node_file(directory: Path, text: bytes) -> None:
    """Write the NODE file atomically and durably. Raises Unusable."""
    try:
        write_durably(directory / NODE_FILE, text)
    except OSError as error:
        raise Unusable(f"{directory / NODE_FILE} cannot be written: {error.strerror}") from error


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that after any crash it holds either its old or its new content."""
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)
    sync_directory(path.parent)


def write_all(fd: int, data: bytes) -> None:
    """Write all of it, however little a file system takes at a time: one that fills up takes a part first."""
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
