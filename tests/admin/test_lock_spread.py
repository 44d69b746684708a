"""The arguments and the table of ``phxqueue locks spread``; what it does is tested in tests/lock/test_spreading.py."""

from __future__ import annotations

import click
import pytest

from phxqueue.admin.lock_spread import _table, _weights
from phxqueue.config import LockGroup, NodeAddress, Topic
from phxqueue.lock.client.routes import LockRoutes
from phxqueue.lock.client.spreading import Standing
from phxqueue.lock.shares import Share
from tests.admin.conftest import Invoke

NODES = (NodeAddress(0, "127.0.0.1", 7000, 7100),)
LOCKS = (LockGroup(lock_id=1, scale=100, nodes=NODES), LockGroup(lock_id=2, scale=0, nodes=NODES))
TOPIC = Topic(topic_id=1000, topic_name="test", locks=LOCKS)


def test_what_is_not_named_stays_as_the_file_has_it() -> None:
    assert _weights(TOPIC, []) == {1: 100, 2: 0}
    assert _weights(TOPIC, ["2=50"]) == {1: 100, 2: 50}


@pytest.mark.parametrize("text", ["2", "2=", "=5", "a=1", "1=-1", "1=0.5"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="is not LOCK_ID=SCALE"):
        _weights(TOPIC, [text])


def test_the_table_tells_where_everything_stands() -> None:
    first, second = LockRoutes(TOPIC).everywhere()
    share, target = Share(1, ((1, 100),)), Share(2, ((1, 100), (2, 50)))
    lines = _table([Standing(first, share, target, 7), Standing(second, None, None, 0)])
    assert lines[-2].split() == ["lock", "1", "group", "0", "1", "1=100", "moving", "to", "1=100,", "2=50"]
    assert lines[-1].split() == ["lock", "2", "group", "0", "none"]


def test_a_topic_without_lock_groups_says_so(invoke: Invoke) -> None:
    result = invoke("locks", "spread")
    assert result.exit_code == 1
    assert "topic test has no lock groups" in result.output + str(result.exception)
