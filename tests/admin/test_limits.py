"""phxqueue limits: what is shown, and what cannot be set."""

from __future__ import annotations

from pathlib import Path

import pytest

from phxqueue.admin import limits
from phxqueue.admin.errors import AdminError
from phxqueue.admin.limits import as_document, as_text, check_ids, describe, rate
from phxqueue.config import FreqInfo, UnknownIdError
from phxqueue.consumer.limits import Limit
from tests.admin.conftest import Invoke
from tests.producer.fake_store import make_topic


def test_what_was_set_replaces_what_the_files_say_of_the_same_items() -> None:
    topic = make_topic()
    files = (FreqInfo(limit_per_min=60, pub_id=1), FreqInfo(limit_per_min=90, pub_id=2, handle_id=2))
    object.__setattr__(topic, "freq_infos", files)
    settings = {"limit/1/-1/-1/-1": b"6000", "pause/2/1": b"1", "limit/broken": b"1"}
    document = as_document(topic, settings)
    assert [(each["pub_id"], each["per_minute"], each["source"], each["in_force"]) for each in document["limits"]] == [
        (1, 6000, "set", True), (1, 60, "topicconfig.conf", False), (2, 90, "topicconfig.conf", True),
    ]  # fmt: skip
    lines = as_text(document)
    assert lines[1].split() == ["1", "any", "any", "any", "6000", "a", "minute", "(100", "a", "second)", "set"]
    assert lines[2].endswith("topicconfig.conf: replaced by what was set")
    assert lines[4:] == ["  paused: group 2 with pub 1", "  not understood: setting limit/broken"]
    assert as_text(as_document(make_topic(), {})) == ["  no limits"]


@pytest.mark.parametrize("limit", [Limit(pub_id=9), Limit(queue_info_id=9)])
def test_a_limit_on_what_is_not_there_is_refused(limit: Limit) -> None:
    with pytest.raises(UnknownIdError):
        check_ids(make_topic(), limit, {})


def test_a_limit_on_an_unknown_handle_id_is_refused() -> None:
    with pytest.raises(AdminError, match="no handle_id 9; there are: 1, 2"):
        check_ids(make_topic(), Limit(handle_id=9), {})
    check_ids(make_topic(), Limit(1, 1, 2, 1), {1: [1]})


def test_a_limit_on_a_group_is_refused_when_it_would_match_nothing() -> None:
    pubs_by_group = {1: [1, 2], 7: [2]}  # 7 was made at run time
    with pytest.raises(AdminError, match="no consumer group 9: `phxqueue groups list`"):
        check_ids(make_topic(), Limit(consumer_group_id=9), pubs_by_group)
    with pytest.raises(AdminError, match="consumer group 7 does not read pub 1; it reads 2"):
        check_ids(make_topic(), Limit(pub_id=1, consumer_group_id=7), pubs_by_group)
    check_ids(make_topic(), Limit(pub_id=2, consumer_group_id=7), pubs_by_group)
    check_ids(make_topic(), Limit(consumer_group_id=7), pubs_by_group)


@pytest.mark.parametrize("command", [("set", "--per-minute", "60"), ("unset",)], ids=["set", "unset"])
def test_everything_is_only_meant_by_who_says_so(
    command: tuple[str, ...], invoke: Invoke, cluster_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cluster_directory)
    reached: list[None] = []
    monkeypatch.setattr(limits, "with_settings", lambda context, use: reached.append(None) or (make_topic(), True))
    result = invoke("limits", *command)
    assert (result.exit_code, reached) == (1, [])
    assert "say which items" in result.stderr
    result = invoke("limits", *command, "--all", "--pub", "1")
    assert (result.exit_code, reached) == (1, [])
    assert "--all is about everything, and you named pub 1" in result.stderr
    assert invoke("limits", *command, "--all").exit_code == invoke("limits", *command, "--pub", "1").exit_code == 0
    assert reached == [None, None]


def test_words() -> None:
    assert describe(Limit(1, 2, 3, 4)) == "pub 1, group 2, handle_id 3, queue_info 4"
    assert describe(Limit()) == "everything"
    assert rate(0) == "no limit"
