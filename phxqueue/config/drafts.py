"""All files of a cluster, read and held against their models, before anything is made of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

from phxqueue.config.files import (
    ConsumersFile,
    GlobalFile,
    LockFile,
    SchedulerFile,
    StoreFile,
    TopicFile,
    TopicInfo,
)
from phxqueue.config.places import candidates, find
from phxqueue.config.problems import Problem, Report, shown_path
from phxqueue.config.schema import BlockT, validate
from phxqueue.config.syntax import Document, read_document, show


@dataclass(slots=True)
class Part(Generic[BlockT]):
    """One file: its text with all findings, and its content unless that was unusable."""

    document: Document
    content: BlockT | None


@dataclass(slots=True)
class TopicDraft:
    """The files of one topic; None: not named, or not there, which has been reported."""

    info: TopicInfo
    topic: Part[TopicFile] | None
    stores: Part[StoreFile] | None
    consumers: Part[ConsumersFile] | None
    schedulers: Part[SchedulerFile] | None
    locks: Part[LockFile] | None

    def parts(
        self,
    ) -> Iterator[Part[TopicFile] | Part[StoreFile] | Part[ConsumersFile] | Part[SchedulerFile] | Part[LockFile]]:
        for part in (self.topic, self.stores, self.consumers, self.schedulers, self.locks):
            if part is not None:
                yield part


@dataclass(slots=True)
class ClusterDraft:
    path: Path
    world: Part[GlobalFile]
    topics: list[TopicDraft] = field(default_factory=list)

    def documents(self) -> list[Document]:
        return [self.world.document, *(part.document for topic in self.topics for part in topic.parts())]


def read_part(path: Path, model: type[BlockT]) -> Part[BlockT]:
    document = read_document(path)
    return Part(document, validate(model, document))


def read_cluster(path: Path | str) -> ClusterDraft:
    """Read globalconfig.conf and every file it names."""
    path = Path(os.path.abspath(path))
    draft = ClusterDraft(path, read_part(path, GlobalFile))
    if draft.world.content is not None:
        for index, info in enumerate(draft.world.content.topic_infos):
            draft.topics.append(_read_topic(draft, index, info))
    return draft


def _read_topic(draft: ClusterDraft, index: int, info: TopicInfo) -> TopicDraft:
    world = draft.world.document
    known = {part.document.file for topic in draft.topics for part in topic.parts()}

    def part(field_name: str, model: type[BlockT]) -> Part[BlockT] | None:
        value: str = getattr(info, field_name)
        if not value:
            return None
        path = ("topic_infos", index, field_name)
        found = find(value, world.file)
        if found is None:
            tried = ", ".join(shown_path(place) for place in candidates(value, world.file))
            world.error(path, f"found {show(value)}, but there is no such file", remedy=f"tried {tried}")
            return None
        if found in known:
            world.error(path, f"found {show(value)}, which is used already", remedy="every topic has its own files")
            return None
        known.add(found)
        return read_part(found, model)

    return TopicDraft(
        info=info,
        topic=part("topic_config_path", TopicFile),
        stores=part("store_config_path", StoreFile),
        consumers=part("consumer_config_path", ConsumersFile),
        schedulers=part("scheduler_config_path", SchedulerFile),
        locks=part("lock_config_path", LockFile),
    )


def report_of(documents: list[Document]) -> Report:
    """One report of all findings, each once, by file in the order read, then by line."""
    problems: dict[Problem, None] = {}
    for document in documents:
        problems.update(dict.fromkeys(sorted(document.problems, key=lambda problem: problem.line)))
    return Report(tuple(problems), tuple(dict.fromkeys(document.file for document in documents)))
