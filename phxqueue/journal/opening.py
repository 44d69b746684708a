"""Opens a data directory: lock, identity, recovery, tables, the marks of all groups. Blocking, at start-up."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from phxqueue.config.settings import JournalSettings
from phxqueue.journal import bdb, layout
from phxqueue.journal.batch import Marks
from phxqueue.journal.damage import Damage
from phxqueue.journal.database import Database, Put, Table
from phxqueue.journal.directory import (
    NODE_FILE,
    DirectoryLock,
    check_identity,
    encode_identity,
    new_identity,
    read_node_file,
    sync_directory,
    write_node_file,
)
from phxqueue.journal.errors import START_OVER, Corrupt, JournalError, Unusable
from phxqueue.journal.log_check import check_log
from phxqueue.journal.logfiles import log_file_name, prepare_first
from phxqueue.journal.records import NodeIdentity, WantedIdentity

DATABASE_DIRECTORY = "db"
RESTORING_DIRECTORY = "restoring"
"""Where `phxqueue restore` writes, in the data directory; gone when it is complete."""

_log = Logger()


@dataclass(slots=True)
class Opened:
    """What opening a data directory yields."""

    lock: DirectoryLock
    database: Database
    identity: NodeIdentity
    marks: Marks = field(default_factory=Marks)
    damage: Damage = field(default_factory=Damage)


def check_settings(settings: JournalSettings) -> None:
    """Refuse what would lose acknowledged items without being asked to. Raises Unusable."""
    if settings.sync != "always" and not settings.i_accept_loss:
        raise Unusable(
            f"journal.sync: {settings.sync} loses acknowledged items when machines fail; "
            "set it to `always`, or set journal.i_accept_loss: true as well"
        )


def open_directory(directory: Path, wanted: WantedIdentity, settings: JournalSettings, binding: Any) -> Opened:
    """Open or make the data directory of one node. Raises JournalError subclasses; leaves nothing locked then."""
    check_settings(settings)
    lock = DirectoryLock(directory)
    database: Database | None = None
    try:
        if (directory / RESTORING_DIRECTORY).exists():
            raise Unusable(
                f"{directory}: a restore from a backup is under way, or was interrupted: run `phxqueue restore` again, "
                f"or remove {directory / RESTORING_DIRECTORY}"
            )
        text = read_node_file(directory)
        if text is not None:
            check_identity(text, directory, wanted)
        home = directory / DATABASE_DIRECTORY
        if text is None and not home.exists():
            _prepare_fresh(home, settings)
        elif settings.sync == "always":
            _check_log(home)
        database = Database(home, settings, binding)
        identity = _open_tables(database, directory, text, wanted)
        opened = Opened(lock, database, identity)
        _load_marks(opened, settings)
        return opened
    except BaseException as error:
        if database is not None:
            database.abandon()
        lock.release()
        if not isinstance(error, (JournalError, layout.Unreadable)) and isinstance(error, binding.DBError):
            raise Corrupt(f"{directory} is damaged: {bdb.explain(error)}; {START_OVER}") from error
        raise


def _prepare_fresh(home: Path, settings: JournalSettings) -> None:
    try:
        home.mkdir(mode=0o700)
        sync_directory(home.parent)
        space = os.statvfs(home)
        if space.f_bavail * space.f_frsize > settings.min_free_bytes + 2 * settings.log_file_bytes:
            prepare_first(home, settings.log_file_bytes)
    except OSError as error:
        (home / log_file_name(1)).unlink(missing_ok=True)
        raise Unusable(f"{home} cannot be made: {error.strerror}; check the disk, then start again") from error


def _check_log(home: Path) -> None:
    """Refuse a log that recovery would cut off in its middle. Raises Corrupt, Unusable."""
    try:
        damage = check_log(home)
    except OSError as error:
        raise Unusable(f"the log in {home} cannot be read: {error.strerror}; check the disk, start again") from error
    if damage is not None:
        raise Corrupt(f"{home}: {damage}; this node no longer knows what it has promised and accepted: {START_OVER}")


def _open_tables(database: Database, directory: Path, text: bytes | None, wanted: WantedIdentity) -> NodeIdentity:
    """Open all tables; make them only in a directory that never was complete."""
    fresh = text is None
    database.open_table(Table.STATE, create=fresh)
    stored = database.get(Table.STATE, layout.IDENTITY_KEY)
    if stored is None and not fresh:
        raise Corrupt(f"{directory / NODE_FILE} names a node, but the database beside it is empty: {START_OVER}")
    for table in Table:
        if table is not Table.STATE:
            database.open_table(table, create=stored is None)
    database.flush_log()  # log_check.py rests on it
    if stored is None:
        identity = new_identity(wanted)
        stored = encode_identity(identity, wanted.paxos_groups)
        database.commit([Put(Table.STATE, layout.IDENTITY_KEY, stored)])
        sync_directory(database.home)
        _log.info(
            "{directory}: made for {role} {set} node {node} of cluster {cluster}, incarnation {incarnation:016x}",
            directory=directory,
            role=identity.role,
            set=identity.store_id,
            node=identity.node_id,
            cluster=identity.cluster,
            incarnation=identity.incarnation,
        )
    identity = check_identity(stored, directory, wanted)
    if text is None:
        write_node_file(directory, stored)
    elif check_identity(text, directory, wanted) != identity:
        raise Corrupt(
            f"{directory / NODE_FILE} is of another incarnation than the database beside it: they are from two "
            "different directories; put back the right one"
        )
    return identity


def _load_marks(opened: Opened, settings: JournalSettings) -> None:
    marks = opened.marks
    places = {layout.PROMISED: marks.promised, layout.CHOSEN: marks.chosen_stored, layout.TRIMMED: marks.trimmed}
    try:
        for key, value in opened.database.scan(Table.STATE, b""):
            if key == layout.IDENTITY_KEY:
                continue
            what, group = layout.split_mark_key(key)
            if what not in places:
                raise layout.Unreadable(f"unknown mark {what!r}")
            places[what][group] = layout.unpack_mark(value) - (1 if what == layout.CHOSEN else 0)
    except layout.Unreadable as error:
        raise Corrupt(
            f"{opened.database.home}: a record of the state table does not parse: {error}; {START_OVER}"
        ) from error
    marks.chosen.update(marks.chosen_stored)
    repaired = (key for key, _ in opened.database.scan(Table.REPAIRS, b""))
    opened.damage = Damage(repaired, settings.max_damaged_entries)
