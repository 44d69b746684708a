"""What must hold within one topicconfig.conf, beyond each field by itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from phxqueue.config.cluster import DEAD_LETTER_BASE
from phxqueue.config.files import QueueInfoEntry, TopicFile, TopicInfo
from phxqueue.config.findings import Unique, check_at_least, check_at_most, check_known, check_unique
from phxqueue.config.pub_entry import PubEntry
from phxqueue.config.syntax import Document, FieldPath

#: Queues of one topic; every process keeps a few small objects for each.
MAX_QUEUES = 1 << 17


def check_topic_file(document: Document, content: TopicFile, info: TopicInfo | None = None) -> None:
    """`info` is the topic's entry of globalconfig.conf, when there is one to compare with."""
    if info is not None and info.topic_id != content.topic.topic_id:
        document.error(
            ("topic", "topic_id"), f"found {content.topic.topic_id}", f"{info.topic_id}, as globalconfig.conf says"
        )
    _check_settings(document, content)
    _check_ids(document, content)
    _check_queue_infos(document, content.queue_infos)
    for index, pub in enumerate(content.pubs):
        _check_pub(document, ("pubs", index), pub, content)
    _check_unused(document, content)
    _check_references(document, content)


def _check_settings(document: Document, content: TopicFile) -> None:
    topic = content.topic
    check_at_most(
        document,
        ("topic", "producer_batch_bytes"),
        topic.producer_batch_bytes,
        topic.items_byte_size_limit,
        "a store refuses a batch beyond items_byte_size_limit",
    )
    check_at_least(
        document,
        ("topic", "producer_buffer_bytes"),
        topic.producer_buffer_bytes,
        topic.items_byte_size_limit,
        "the largest item (items_byte_size_limit) has to fit",
    )
    check_at_most(
        document,
        ("topic", "consumer_lock_interval_s"),
        topic.consumer_lock_interval_s,
        topic.consumer_lock_lease_time_s - 1,
        "a lock is renewed before its lease (consumer_lock_lease_time_s) ends",
    )
    check_unique(document, ("topic", "handle_ids"), topic.handle_ids)


def _check_ids(document: Document, content: TopicFile) -> None:
    for section, name in (
        ("queue_infos", "queue_info_id"),
        ("pubs", "pub_id"),
        ("consumer_groups", "consumer_group_id"),
    ):
        seen = Unique("every entry has its own id")
        for index, entry in enumerate(getattr(content, section)):
            seen.add(document, (section, index, name), getattr(entry, name))


def parse_range(text: str) -> tuple[int, int]:
    """ "0-4" → (0, 4); "7" → (7, 7). The form has been checked."""
    first, _, last = text.partition("-")
    return int(first), int(last or first)


@dataclass(frozen=True, slots=True, order=True)
class _Taken:
    """One range of one queue_info."""

    first: int
    last: int
    path: FieldPath
    queue_info_id: int

    def __str__(self) -> str:
        return f'"{self.first}"' if self.first == self.last else f'"{self.first}-{self.last}"'


def _check_queue_infos(document: Document, infos: Sequence[QueueInfoEntry]) -> None:
    taken: list[_Taken] = []
    for index, info in enumerate(infos):
        path: FieldPath = ("queue_infos", index)
        if info.count == 0:
            document.error((*path, "count"), "found 0", "-1 or at least 1", "one that takes no attempts is never used")
        if not info.ranges:
            document.error((*path, "ranges"), "no queue", 'at least one, as in ["0-4"]')
        for place, text in enumerate(info.ranges):
            entry = _Taken(*parse_range(text), (*path, "ranges", place), info.queue_info_id)
            if entry.last >= DEAD_LETTER_BASE:
                document.error(
                    entry.path,
                    f"found {entry}",
                    f"queue ids below {DEAD_LETTER_BASE}",
                    "the ones above are for dead letters",
                )
            else:
                taken.append(entry)
    _check_overlaps(document, sorted(taken))
    queues = sum(entry.last - entry.first + 1 for entry in taken)
    if queues > MAX_QUEUES:
        document.error(("queue_infos",), f"{queues} queues", f"at most {MAX_QUEUES} in a topic")


def _check_overlaps(document: Document, taken: Sequence[_Taken]) -> None:
    widest: _Taken | None = None  # of the ranges so far, the one that reaches furthest
    for entry in taken:
        if widest is not None and entry.first <= widest.last:
            earlier, later = sorted((widest, entry), key=lambda part: document.line(part.path))
            document.error(
                later.path,
                f"found {later}, which overlaps {earlier} of queue_info {earlier.queue_info_id} in line "
                f"{document.line(earlier.path)}",
                remedy="a queue belongs to one queue_info",
            )
        if widest is None or entry.last > widest.last:
            widest = entry


def _check_pub(document: Document, path: FieldPath, pub: PubEntry, content: TopicFile) -> None:
    infos = {info.queue_info_id: info for info in content.queue_infos}
    groups = {group.consumer_group_id for group in content.consumer_groups}
    check_unique(document, (*path, "queue_info_ids"), pub.queue_info_ids)
    check_unique(document, (*path, "consumer_group_ids"), pub.consumer_group_ids)
    if not pub.queue_info_ids:
        document.error((*path, "queue_info_ids"), "no queue_info", f"at least one of {', '.join(map(str, infos))}")
    if not pub.consumer_group_ids:
        document.warn((*path, "consumer_group_ids"), "no consumer group: nobody would read its items")
    for place, group in enumerate(pub.consumer_group_ids):
        check_known(document, (*path, "consumer_group_ids", place), group, groups, "one of consumer_groups")
    _check_priorities(document, path, pub, infos)
    endless = 0
    for place, info_id in enumerate(pub.queue_info_ids):
        link = (*path, "queue_info_ids", place)
        if endless:
            document.error(
                link,
                f"found {info_id}, which is never reached",
                remedy=f"queue_info {endless} before it takes all attempts (count -1)",
            )
            break
        if check_known(document, link, info_id, infos, "one of queue_infos") and infos[info_id].count < 0:
            endless = info_id


def _check_priorities(document: Document, path: FieldPath, pub: PubEntry, infos: Collection[int]) -> None:
    check_unique(document, (*path, "priority_queue_info_ids"), pub.priority_queue_info_ids)
    for place, info_id in enumerate(pub.priority_queue_info_ids):
        link = (*path, "priority_queue_info_ids", place)
        if info_id in pub.queue_info_ids:
            document.error(
                link, f"found {info_id}, which is in queue_info_ids", remedy="a priority has a queue_info of its own"
            )
        check_known(document, link, info_id, infos, "one of queue_infos")


def _check_unused(document: Document, content: TopicFile) -> None:
    used = {info_id for pub in content.pubs for info_id in (*pub.queue_info_ids, *pub.priority_queue_info_ids)}
    for index, info in enumerate(content.queue_infos):
        if info.queue_info_id not in used:
            document.warn(("queue_infos", index, "queue_info_id"), f"queue_info {info.queue_info_id} is in no pub")
    read = {group for pub in content.pubs for group in pub.consumer_group_ids}
    for index, group in enumerate(content.consumer_groups):
        if group.consumer_group_id not in read:
            document.warn(
                ("consumer_groups", index, "consumer_group_id"),
                f"consumer group {group.consumer_group_id} is in no pub: it would get nothing",
            )


def _check_references(document: Document, content: TopicFile) -> None:
    """skip_infos, freq_infos, replay_infos and the ignore list name things that exist."""
    known = {
        "pub_id": {pub.pub_id for pub in content.pubs},
        "consumer_group_id": {group.consumer_group_id for group in content.consumer_groups},
        "queue_info_id": {info.queue_info_id for info in content.queue_infos},
        "handle_id": set(content.topic.handle_ids),
    }
    for section in ("skip_infos", "freq_infos"):
        for index, entry in enumerate(getattr(content, section)):
            for name, ids in known.items():
                value = getattr(entry, name)
                check_known(document, (section, index, name), value, ids | {-1}, "-1 (any) or one that is configured")
    for index, skip in enumerate(content.skip_infos):
        if skip.uin == 0 and all(getattr(skip, name) == -1 for name in known):
            document.warn(("skip_infos", index), "matches every item: nothing would be handled")
    for index, replay in enumerate(content.replay_infos):
        for name, ids in (("pub_ids", known["pub_id"]), ("consumer_group_ids", known["consumer_group_id"])):
            for place, value in enumerate(getattr(replay, name)):
                check_known(document, ("replay_infos", index, name, place), value, ids, "one that is configured")
    for place, group in enumerate(content.topic.consumer_ignore_consumer_group_ids):
        check_known(
            document,
            ("topic", "consumer_ignore_consumer_group_ids", place),
            group,
            known["consumer_group_id"],
            "one of consumer_groups",
        )
