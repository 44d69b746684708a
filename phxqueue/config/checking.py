"""`phxqueue config check`: everything that is wrong with the files or directories one names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from phxqueue.config.drafts import read_part, report_of
from phxqueue.config.files import ConsumersFile, LockFile, SchedulerFile, StoreFile, TopicFile
from phxqueue.config.loading import (
    inspect_cluster,
    inspect_consumer_node,
    inspect_lock_node,
    inspect_scheduler_node,
    inspect_store_node,
)
from phxqueue.config.problems import Problem, Report
from phxqueue.config.replica_checks import check_replica_sets
from phxqueue.config.syntax import Document, read_document
from phxqueue.config.topic_checks import check_topic_file

#: Fields by which a file is recognised, whatever its name; the first match counts.
_MARKS = {
    "topic_infos": "globalconfig",
    "queue_infos": "topicconfig",
    "pubs": "topicconfig",
    "stores": "storeconfig",
    "consumers": "consumerconfig",
    "scheduler": "schedulerconfig",
    "locks": "lockconfig",
    "data_dir": "store",
    "handlers": "consumer",
}
_WHOLE_CLUSTER = "globalconfig"
_NODES: dict[str, Callable[..., tuple[object, Report]]] = {
    "store": inspect_store_node,
    "lock": inspect_lock_node,
    "scheduler": inspect_scheduler_node,
    "consumer": inspect_consumer_node,
}


def check(paths: Iterable[Path | str], *, check_files: bool = False) -> Report:
    """Check files of any of the kinds, and directories of them (`*.conf`), in one report.

    A globalconfig.conf brings the files it names, a node's file its cluster. A cluster file by itself is checked
    as far as one can without the others. `check_files`: also see whether the certificate files exist.
    """
    kinds = {path: _kind(path) for given in paths for path in _expand(Path(os.path.abspath(given)))}
    reports = [inspect_cluster(path, check_files=check_files)[1] for path in kinds if kinds[path] == _WHOLE_CLUSTER]
    for path in (path for path in kinds if kinds[path] in _NODES):
        reports.append(_NODES[kinds[path]](path, check_files=check_files)[1])
    covered = {file for report in reports for file in report.files}
    reports += [_check_alone(path, kind) for path, kind in kinds.items() if path not in covered]
    problems = dict.fromkeys(problem for report in reports for problem in report.problems)
    files = dict.fromkeys(file for report in reports for file in report.files)
    return Report(tuple(problems), tuple(files))


def _expand(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(path.glob("*.conf")) or [path]


def _kind(path: Path) -> str:
    """What a file is: by its fields, else by its name; "" when neither says."""
    root = read_document(path).root
    kind = next((kind for mark, kind in _MARKS.items() if root is not None and mark in root), "")
    stem = path.name.partition(".")[0]
    if (kind, stem) == ("store", "lock"):  # their files have the same fields
        return stem
    return kind or (stem if stem in _NODES or stem in _MARKS.values() else "")


def _check_topic(path: Path) -> Document:
    part = read_part(path, TopicFile)
    if part.content is not None:
        check_topic_file(part.document, part.content)
    return part.document


def _check_stores(path: Path) -> Document:
    part = read_part(path, StoreFile)
    check_replica_sets(part.document, "stores", part.content.stores if part.content else ())
    return part.document


def _check_locks(path: Path) -> Document:
    part = read_part(path, LockFile)
    check_replica_sets(part.document, "locks", part.content.locks if part.content else ())
    return part.document


_ALONE: dict[str, Callable[[Path], Document]] = {
    "topicconfig": _check_topic,
    "storeconfig": _check_stores,
    "lockconfig": _check_locks,
    "consumerconfig": lambda path: read_part(path, ConsumersFile).document,
    "schedulerconfig": lambda path: read_part(path, SchedulerFile).document,
}


def _check_alone(path: Path, kind: str) -> Report:
    if kind in _ALONE:
        return report_of([_ALONE[kind](path)])
    document = read_document(path)
    if path.is_dir():
        document.problems = [Problem(file=path, found="holds no *.conf file")]
    elif not document.problems:
        document.error((), "is no configuration file of PhxQueue", "one with a field " + ", ".join(_MARKS))
    return report_of([document])
