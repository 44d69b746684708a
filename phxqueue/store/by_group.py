"""Numbers kept per queue and consumer group, as checkpoints hold them."""

from __future__ import annotations

from collections.abc import Mapping

from phxqueue.store.columns import ColumnReader, ColumnWriter


def write_by_group(out: ColumnWriter, numbers: Mapping[tuple[int, int], int]) -> None:
    """Write a number per queue and consumer group."""
    out.u32(len(numbers))
    out.numbers([queue_id for queue_id, _ in numbers])
    out.numbers([consumer_group_id for _, consumer_group_id in numbers])
    out.numbers(numbers.values())


def read_by_group(source: ColumnReader) -> dict[tuple[int, int], int]:
    """Read what was written."""
    count = source.u32()
    queue_ids, consumer_group_ids, numbers = (source.numbers(count) for _ in range(3))
    return dict(zip(zip(queue_ids, consumer_group_ids, strict=True), numbers, strict=True))
