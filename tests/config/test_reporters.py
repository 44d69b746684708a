"""Who reports to a scheduler: consumers with a group whose weights it gives."""

from __future__ import annotations

import pytest

from phxqueue.config import Consumer, ConsumerGroup, NodeAddress, Topic, TopicSettings
from phxqueue.config.reporters import asks_scheduler, reporters


def topic(*, schedulers: int = 1, ignored: tuple[int, ...] = ()) -> Topic:
    return Topic(
        topic_id=1000,
        topic_name="test",
        settings=TopicSettings(consumer_ignore_consumer_group_ids=ignored),
        queue_infos=(),
        pubs=(),
        consumer_groups=(
            ConsumerGroup(consumer_group_id=1),
            ConsumerGroup(consumer_group_id=2, use_dynamic_scale=False),
        ),
        stores=(),
        consumers=(
            Consumer(ip="10.0.0.1", port=1),
            Consumer(ip="10.0.0.1", port=2, consumer_group_ids=(2,)),
            Consumer(ip="10.0.0.1", port=3, consumer_group_ids=(2, 1)),
        ),
        scheduler=tuple(NodeAddress(number, "10.0.0.2", 6100 + number) for number in range(schedulers)),
    )


@pytest.mark.parametrize(("groups", "asks"), [((1,), True), ((2,), False), ((2, 1), True), ((), False)])
def test_one_group_with_weights_of_a_scheduler_is_enough(groups: tuple[int, ...], asks: bool) -> None:
    assert asks_scheduler(topic(), groups) is asks
    assert not asks_scheduler(topic(schedulers=0), groups)


def test_who_has_none_does_not_report() -> None:
    assert [one.port for one in reporters(topic())] == [1, 3]
    assert reporters(topic(ignored=(1,))) == ()
