"""The Berkeley DB environment of one node: how it is opened, what its tables are, how a transaction is made.

Everything here blocks and raises the binding's own errors once the database is open; who calls decides what they mean.
Why each setting is as it is: docs/decisions/0002-journal-berkeley-db.md.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from phxqueue.config.settings import JournalSettings
from phxqueue.journal import bdb
from phxqueue.journal.directory import write_all
from phxqueue.journal.errors import START_OVER, Corrupt, JournalError, Unusable
from phxqueue.journal.log_check import UNSYNCED

MAX_SUBMISSION_WRITES = 32_768
"""Most writes of one submission. One transaction holds it, and the lock table is sized for it."""

LOCKS_PER_WRITE = 2
"""Page locks one write can hold till commit (measured: 2 for scattered overwrites, 0.2 for appended entries)."""

EXTRA_LOCKERS = 64
"""Lockers besides the readers': writer, checkpoint, handles and what Berkeley DB makes for itself."""

MAX_READ_DEADLOCKS = 100
"""How often one lookup is tried again after it gave way to the writer."""

SCAN_RECORDS = 64
SCAN_BYTES = 1 << 20
"""A scan lets go of its cursor, and of the page it has locked, after this many records or bytes."""

T = TypeVar("T")

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600


class Table(IntEnum):
    """The tables; each is a B-tree in a file of its own."""

    ENTRIES = 0
    REPAIRS = 1
    STATE = 2
    BLOBS = 3


class Put(NamedTuple):
    """One record to store, or to delete when `value` is None."""

    table: Table
    key: bytes
    value: bytes | None


#: With less free disk than this a recovery may fail for want of room: a log file and some pages.
RECOVERY_ROOM = 64 << 20


class Database:
    """An open environment with its tables."""

    def __init__(self, home: Path, settings: JournalSettings, binding: Any) -> None:
        """Open, with recovery. Raises Corrupt, Unusable."""
        self.binding = binding
        self.home = home
        self._settings = settings
        self._env = binding.DBEnv()
        self._tables: list[Any] = [None] * len(Table)
        self._read_flags = binding.DB_READ_UNCOMMITTED
        self.deadlock: type[Exception] = binding.DBLockDeadlockError
        self.error: type[Exception] = binding.DBError
        self._not_found: type[Exception] = binding.DBNotFoundError
        self._commit_flags = binding.DB_TXN_SYNC if settings.sync == "always" else binding.DB_TXN_WRITE_NOSYNC
        self._log_end = (0, 0)  # after the last commit
        self._checkpoints_begun = self._checkpoints_ended = 0
        failed_writes = bdb.count_failed_writes(binding, self._env)
        try:
            home.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
            self._open_environment()
        except (OSError, self.error) as error:
            raise _refusal(error, home, failed_writes()) from error

    def _open_environment(self) -> None:
        db, env, settings = self.binding, self._env, self._settings
        env.set_cachesize(settings.cache_bytes >> 30, settings.cache_bytes & ((1 << 30) - 1), 1)
        env.set_lg_bsize(min(settings.log_buffer_bytes, settings.log_file_bytes // 4))
        env.set_lg_max(settings.log_file_bytes)
        locks = max(settings.max_locks, LOCKS_PER_WRITE * MAX_SUBMISSION_WRITES)
        env.set_lk_max_locks(locks)
        env.set_lk_max_objects(locks)
        env.set_lk_max_lockers(settings.read_threads + EXTRA_LOCKERS)
        # The one with the fewest write locks gives way: a reader, which simply reads again.
        env.set_lk_detect(db.DB_LOCK_MINWRITE)
        if settings.sync != "always":
            env.set_flags(db.DB_TXN_WRITE_NOSYNC, 1)
        flags = db.DB_CREATE | db.DB_RECOVER | db.DB_PRIVATE | db.DB_THREAD
        flags |= db.DB_INIT_MPOOL | db.DB_INIT_LOG | db.DB_INIT_TXN | db.DB_INIT_LOCK
        env.open(str(self.home), flags, _FILE_MODE)
        env.log_flush()  # log_check.py rests on it
        # One unreadable page must not take the environment down: see `repairs` in layout.py. Every error of a write
        # still ends the journal, by our own hand.
        env.set_flags(db.DB_NOPANIC, 1)

    def open_table(self, table: Table, create: bool) -> None:
        """Open a table, making it when that is allowed. Raises Corrupt, Unusable."""
        db = self.binding
        handle = db.DB(self._env)
        self._tables[table] = handle
        handle.set_pagesize(self._settings.page_bytes)
        handle.set_flags(db.DB_CHKSUM)
        flags = db.DB_THREAD | db.DB_AUTO_COMMIT | db.DB_READ_UNCOMMITTED | (db.DB_CREATE if create else 0)
        name = f"{table.name.lower()}.db"
        try:
            handle.open(name, dbtype=db.DB_BTREE, flags=flags, mode=_FILE_MODE)
        except db.DBNoSuchFileError as error:
            raise Corrupt(f"{self.home / name} is missing: put it back, or {START_OVER}") from error
        except self.error as error:
            raise _refusal(error, self.home / name) from error

    # ---- reading ----------------------------------------------------------------------

    def get(self, table: Table, key: bytes) -> bytes | None:
        """Return the value of `key`, None when there is none. Holds no lock when it returns."""
        value: bytes | None = self._giving_way(lambda: self._tables[table].get(key, flags=self._read_flags))
        return value

    def has(self, table: Table, key: bytes) -> bool:
        """Whether there is a record, without reading its value."""
        return self._giving_way(lambda: bool(self._tables[table].exists(key, flags=self._read_flags)))

    def first_key(self, table: Table, start: bytes) -> bytes | None:
        """Return the lowest key from `start` on."""
        found = self._giving_way(lambda: self._look(table, lambda cursor: cursor.set_range(start, dlen=0, doff=0)))
        return None if found is None else found[0]

    def last_before(self, table: Table, limit: bytes) -> tuple[bytes, bytes] | None:
        """Return the record with the highest key below `limit`."""

        def look(cursor: Any) -> Any:
            try:
                beyond = cursor.set_range(limit, dlen=0, doff=0)
            except self._not_found:
                beyond = None
            return cursor.last() if beyond is None else cursor.prev()

        found: tuple[bytes, bytes] | None = self._giving_way(lambda: self._look(table, look))
        return found

    def scan(self, table: Table, first: bytes, below: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) by rising key from `first`, up to but without `below`, in bounded memory."""
        start = first
        while True:
            chunk = self._giving_way(partial(self._scan_chunk, table, start))
            for key, value in chunk:
                if below is not None and key >= below:
                    return
                yield key, value
            if not chunk:
                return
            start = chunk[-1][0] + b"\0"

    def _scan_chunk(self, table: Table, start: bytes) -> list[tuple[bytes, bytes]]:
        chunk: list[tuple[bytes, bytes]] = []

        def look(cursor: Any) -> None:
            size = 0
            record = cursor.set_range(start)
            while record is not None:
                chunk.append(record)
                size += len(record[1])
                if len(chunk) >= SCAN_RECORDS or size >= SCAN_BYTES:
                    break
                record = cursor.next()

        self._look(table, look)
        return chunk

    def _look(self, table: Table, look: Callable[[Any], Any]) -> Any:
        cursor = self._tables[table].cursor(flags=self._read_flags)
        try:
            return look(cursor)
        except self._not_found:
            return None
        finally:
            cursor.close()

    def _giving_way(self, read: Callable[[], T]) -> T:
        """Run `read`, again when it had to give way to the writer."""
        for _ in range(MAX_READ_DEADLOCKS):
            try:
                return read()
            except self.deadlock:
                continue
        return read()

    # ---- writing (writer thread) ----------------------------------------------------------------------

    def commit(self, puts: list[Put]) -> None:
        """Store all of `puts` in one transaction, durably (with `sync: always`).

        A single record is one binding call: it commits by itself, synchronously, as the environment's default is.
        """
        if len(puts) == 1 and puts[0].value is not None:
            self._tables[puts[0].table].put(puts[0].key, puts[0].value)
        else:
            self._transact(puts, self._commit_flags)
        if self._commit_flags == self.binding.DB_TXN_SYNC:
            self._confirm_flushed()

    def _confirm_flushed(self) -> None:
        """Do not take a commit's word alone: see that the log on disk reaches as far as the log in memory.

        When the first write or flush of a *new* log file fails, Berkeley DB 5.3 takes the commit for one that made it
        to disk (it compares with the place it had written to in the file before), and so the next ones, until its
        buffer is full. Flushing once more is no answer: a flush that failed is not to be tried again.
        """
        before, ended = self._log_end, self._checkpoints_ended
        stat = self._env.log_stat()
        flushed = stat["disk_file"], stat["disk_offset"]
        self._log_end = stat["cur_file"], stat["cur_offset"]
        if flushed >= self._log_end:
            return
        if self._checkpoints_begun == ended or flushed <= before:
            number = probe(self.home) or errno.EIO
            raise self.error(number, f"{os.strerror(number)} -- commit not flushed, the log on disk ends at {flushed}")
        # What is missing is a record that the checkpoint has just logged, and is about to flush.

    def commit_unsynced(self, puts: list[Put]) -> None:
        """Store all of `puts` in one transaction that becomes durable with the next durable one."""
        self._transact(puts, self.binding.DB_TXN_NOSYNC, mark=UNSYNCED)

    def _transact(self, puts: Iterable[Put], commit_flags: int, mark: bytes | None = None) -> None:
        transaction = self._env.txn_begin()
        try:
            if mark is not None:
                bdb.log_message(self._env, mark, transaction)
            for table, key, value in puts:
                if value is not None:
                    self._tables[table].put(key, value, transaction)
                else:
                    with suppress(self._not_found):
                        self._tables[table].delete(key, transaction)
            if mark is not None:
                bdb.log_message(self._env, mark, transaction)
        except BaseException:
            transaction.abort()
            raise
        transaction.commit(commit_flags)

    # ---- upkeep ----------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Write everything the log says into the tables, then mark the log."""
        self._checkpoints_begun += 1
        self._env.txn_checkpoint(0, 0, self.binding.DB_FORCE)
        self._checkpoints_ended += 1

    def remove_old_logs(self) -> int:
        """Remove the log files that recovery does not need any more; return how many they were."""
        files = self._env.log_archive(self.binding.DB_ARCH_ABS)
        for name in files:
            Path(name.decode() if isinstance(name, bytes) else name).unlink()
        return len(files)

    def trickle(self, clean_percent: int) -> int:
        """Write old changed pages until this share of the cache is clean; return how many were written.

        They are flushed here as well, in small portions: a flush of all of them at the checkpoint would hold up the
        log's for as long as it takes.
        """
        pages = int(self._env.memp_trickle(clean_percent))
        if pages:
            os.fdatasync(self._tables[Table.ENTRIES].fd())
        return pages

    def flush_log(self) -> None:
        """Make durable what was committed without."""
        self._env.log_flush()

    def log_position(self) -> tuple[int, int]:
        """Return (number of the current log file, bytes in it)."""
        stat = self._env.log_stat()
        return stat["cur_file"], stat["cur_offset"]

    def log_syncs(self) -> int:
        """Return how many times the log has been flushed to the medium."""
        return int(self._env.log_stat()["scount"])

    def close(self) -> None:
        """Close tables and environment, writing out what is in memory."""
        tables, self._tables = self._tables, []
        for table in tables:
            if table is not None:
                table.close()
        self._env.close()

    def abandon(self) -> None:
        """Leave everything as it is: nothing may be written any more."""
        bdb.abandon(self._env, *self._tables)


def _refusal(error: Exception, where: Path, failed_writes: int = 0) -> JournalError:
    """Turn an error at opening into one that says what to do."""
    number = error.errno if isinstance(error, OSError) else error.args[0] if error.args else 0
    if failed_writes and number not in (errno.ENOSPC, errno.EDQUOT):
        number = probe(where)
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Unusable(f"{where} cannot be used: {bdb.explain(error)}; check owner and mode")
    if number in (errno.ENOSPC, errno.EDQUOT):
        return Unusable(f"{where} cannot be opened: the disk is full; make room and start again, nothing is lost")
    if number in (errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        return Unusable(f"{where} cannot be opened: {bdb.explain(error)}; raise that limit, or lower cache_bytes")
    if failed_writes or number == errno.EIO or (isinstance(error, OSError) and number) or probe(where):
        return Unusable(
            f"{where} cannot be opened: the disk fails ({bdb.explain(error)}); check it (dmesg), then start again. "
            f"When the disk has to be replaced: {START_OVER}"
        )
    usage = os.statvfs(where.parent)
    if (free := usage.f_bavail * usage.f_frsize) < RECOVERY_ROOM:
        # More than the probe writes: recovery may have needed more, too.
        return Unusable(
            f"{where} cannot be opened: only {free} bytes are free on its disk, and recovery needs room "
            f"({bdb.explain(error)}); make room and start again, nothing is lost"
        )
    return Corrupt(f"{where} is damaged and cannot be recovered: {bdb.explain(error)}; {START_OVER}")


_PROBE = "probe.tmp"
_PROBE_BYTES = 64 * 1024


def probe(directory: Path) -> int:
    """Try whether something can be written to a directory and flushed; return the error number, 0 when it can.

    Berkeley DB ends a recovery that cannot write with words about a damaged database. Taken at its word, a full disk
    would have its data thrown away.
    """
    path = (directory if directory.is_dir() else directory.parent) / _PROBE
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _FILE_MODE)
        try:
            write_all(fd, bytes(_PROBE_BYTES))
            os.fsync(fd)
        finally:
            os.close(fd)
            path.unlink()
    except OSError as error:
        return error.errno or errno.EIO
    return 0
