"""What a scheduler process makes of its configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from phxqueue.config import load_scheduler_node
from phxqueue.console.scheduler_conditions import NO_CONSUMER
from phxqueue.scheduler.daemon import SchedulerRole

ETC = Path(__file__).parents[2] / "etc"


class Deaf:
    """A master that no consumer reports to."""

    term = 1

    def loads(self) -> dict[str, float]:
        return {}


@pytest.mark.parametrize(("dynamic", "kinds"), [(True, [NO_CONSUMER]), (False, [])])
def test_only_consumers_that_report_are_missed(dynamic: bool, kinds: list[str]) -> None:
    node = load_scheduler_node(ETC / "scheduler.0.conf")
    groups = tuple(replace(group, use_dynamic_scale=dynamic) for group in node.topic.consumer_groups)
    role: Any = SchedulerRole(replace(node, topic=replace(node.topic, consumer_groups=groups)), Clock())
    role._service = Deaf()
    assert [condition.alarm.kind for condition in role._look(0.0)] == kinds
