"""What has to hold between fields and files: one spoilt field, one problem at its place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.config import ConfigError, load_cluster


def test_the_files_are_fine_before_they_are_spoilt(files: Any) -> None:
    cluster, report = files.cluster()
    assert report.problems == ()
    assert cluster is not None


SPOILT: list[tuple[str, str, Any, str, str]] = [
    # file, field to set, value, field of the problem, what is said
    ("topicconfig", "topic.topic_id", 1001, "topic.topic_id", "1000, as globalconfig.conf says"),
    ("topicconfig", "topic.handle_ids", [1, 2, 1], "topic.handle_ids[2]", "given already"),
    ("topicconfig", "topic.producer_batch_bytes", 4 << 20, "topic.producer_batch_bytes", "at most 2097152"),
    ("topicconfig", "topic.producer_buffer_bytes", 1 << 20, "topic.producer_buffer_bytes", "at least 2097152"),
    ("topicconfig", "topic.items_byte_size_limit", 32 << 20, "net.max_frame_bytes", "at least 33619968"),
    ("topicconfig", "topic.items_byte_size_limit", 32 << 20, "stores[0].window_bytes", "at least 33554432"),
    ("topicconfig", "topic.consumer_lock_interval_s", 30, "topic.consumer_lock_interval_s", "at most 4"),
    (
        "topicconfig",
        "topic.consumer_ignore_consumer_group_ids",
        [2],
        "topic.consumer_ignore_consumer_group_ids[0]",
        "one of consumer_groups: 1, 3",
    ),
    ("topicconfig", "queue_infos.1.queue_info_id", 1, "queue_infos[1].queue_info_id", "given already in line"),
    ("topicconfig", "queue_infos.1.count", 0, "queue_infos[1].count", "-1 or at least 1"),
    ("topicconfig", "queue_infos.0.count", -1, "pubs[0].queue_info_ids[1]", "never reached"),
    ("topicconfig", "queue_infos.0.ranges", [], "queue_infos[0].ranges", "no queue"),
    ("topicconfig", "queue_infos.0.ranges", ["4-0"], "queue_infos[0].ranges[0]", 'found "4-0"'),
    ("topicconfig", "queue_infos.0.ranges", ["0-4 10-12"], "queue_infos[0].ranges[0]", 'found "0-4 10-12"'),
    ("topicconfig", "queue_infos.1.ranges", ["2-5"], "queue_infos[1].ranges[0]", 'overlaps "0-3" of queue_info 1'),
    ("topicconfig", "queue_infos.1.ranges", ["8"], "queue_infos[1].ranges[0]", 'overlaps "8" of queue_info 1'),
    ("topicconfig", "queue_infos.0.ranges", ["0-3", "2"], "queue_infos[0].ranges[1]", 'overlaps "0-3"'),
    ("topicconfig", "queue_infos.1.ranges", ["1048576"], "queue_infos[1].ranges[0]", "queue ids below 1048576"),
    ("topicconfig", "queue_infos.1.ranges", ["1000-200000"], "queue_infos", "at most 131072 in a topic"),
    ("topicconfig", "pubs.0.pub_id", 1 << 20, "pubs[0].pub_id", "from 1 to 1048575"),
    ("topicconfig", "pubs.0.queue_info_ids", [], "pubs[0].queue_info_ids", "no queue_info"),
    ("topicconfig", "pubs.0.queue_info_ids", [1, 7, 2], "pubs[0].queue_info_ids[1]", "one of queue_infos: 1, 2"),
    ("topicconfig", "pubs.0.queue_info_ids", [1, 2, 1], "pubs[0].queue_info_ids[2]", "given already"),
    ("topicconfig", "pubs.0.consumer_group_ids", [1, 2, 3], "pubs[0].consumer_group_ids[1]", "groups: 1, 3"),
    ("topicconfig", "pubs.0.consumer_group_ids", [1, 3, 3], "pubs[0].consumer_group_ids[2]", "given already"),
    ("topicconfig", "consumer_groups.1.consumer_group_id", 65, "consumer_groups[1].consumer_group_id", "1 to 64"),
    ("topicconfig", "consumer_groups.1.consumer_group_id", 0, "consumer_groups[1].consumer_group_id", "1 to 64"),
    ("topicconfig", "consumer_groups.2", {"consumer_group_id": 1}, "consumer_groups[2].consumer_group_id", "already"),
    ("topicconfig", "skip_infos", [{"pub_id": 5}], "skip_infos[0].pub_id", "-1 (any) or one that is configured"),
    ("topicconfig", "skip_infos", [{"handle_id": 9}], "skip_infos[0].handle_id", "-1, 1, 2"),
    ("topicconfig", "replay_infos", [{"pub_ids": [4]}], "replay_infos[0].pub_ids[0]", "one that is configured: 1"),
    (
        "topicconfig",
        "freq_infos",
        [{"limit_per_min": 1, "queue_info_id": 9}],
        "freq_infos[0].queue_info_id",
        "-1, 1, 2",
    ),
    ("storeconfig", "stores.0.pub_ids", [1, 1], "stores[0].pub_ids[1]", "given already"),
    ("storeconfig", "stores.0.pub_ids", [2], "pubs[0].pub_id", "no store serves pub 1"),
    ("storeconfig", "stores.0.scale", 0, "pubs[0].pub_id", "all stores of pub 1 have scale 0"),
    ("storeconfig", "stores.0.addrs", [], "stores[0].addrs", "no node"),
    ("storeconfig", "stores.0.addrs.1.port", 5100, "stores[0].addrs[1].port", "127.0.0.1:5100, given already"),
    ("storeconfig", "stores.0.addrs.1.paxos_port", 5200, "stores[0].addrs[1].paxos_port", "127.0.0.1:5200, given"),
    ("storeconfig", "stores.0.addrs.1.ip", "0.0.0.0", "stores[0].addrs[1].ip", "others can connect to"),
    ("storeconfig", "stores.0.addrs.1.ip", "256.0.0.1", "stores[0].addrs[1].ip", "an IPv4 or IPv6 address"),
    ("storeconfig", "stores.0.addrs.1.node_id", 2, "stores[0].addrs[2].node_id", "node 2 is at position 1 too"),
    ("storeconfig", "stores.0.addrs.0.node_id", 1, "stores[0].addrs[1].node_id", "a number of its own"),
    ("storeconfig", "stores.0.master_lease_ms", 299, "stores[0].master_lease_ms", "at least 300"),
    ("storeconfig", "stores.0.heartbeat_interval_ms", 200, "stores[0].master_lease_ms", "at least 600"),
    ("storeconfig", "stores.0.max_clock_drift_ms", 201, "stores[0].max_clock_drift_ms", "at most 200"),
    ("storeconfig", "stores.0.window_bytes", 1 << 20, "stores[0].window_bytes", "at least 2097152"),
    ("storeconfig", "stores.0.preferred_region", "b", "stores[0].preferred_region", 'found "b"'),
    ("storeconfig", "stores.0.paxos_groups", 0, "stores[0].paxos_groups", "from 1 to 1024"),
    ("lockconfig", "locks.0.addrs.0.port", 5300, "locks[0].addrs[0].port", "of "),
    ("lockconfig", "locks.0.master_lease_ms", 100, "locks[0].master_lease_ms", "at least 300"),
    ("schedulerconfig", "scheduler.addrs.0.port", 7101, "scheduler.addrs[0].port", "given already"),
    ("consumerconfig", "consumers.0.consumer_group_ids", [1, 2, 3], "consumers[0].consumer_group_ids[1]", "1, 3"),
    ("consumerconfig", "consumers.1", {"addr": {"ip": "127.0.0.1", "port": 8001}}, "consumers[1].addr.port", "already"),
    (
        "consumerconfig",
        "consumers.1",
        {"addr": {"ip": "127.0.0.1", "port": 8002}, "name": "127.0.0.1-8001"},
        "consumers[1].name",
        "given already",
    ),
    ("consumerconfig", "consumers.0.addr.ip", "a" * 60 + ".example", "consumers[0].addr.ip", "too long"),
    ("consumerconfig", "consumers.0.scale", -1, "consumers[0].scale", "from 0"),
    ("globalconfig", "topic_infos", [], "topic_infos", "no topic"),
    ("globalconfig", "topic_infos.0.store_config_path", "x/y.conf", "topic_infos[0].store_config_path", "tried "),
    ("globalconfig", "topic_infos.0.topic_name", "a b", "topic_infos[0].topic_name", "a name of letters"),
    ("globalconfig", "net", {"backoff_max_s": 0.001}, "net.backoff_max_s", "at least 0.01"),
    ("globalconfig", "net", {"max_unsent_bytes": 1 << 20}, "net.max_unsent_bytes", "write_high_water_bytes"),
]


@pytest.mark.parametrize(("file", "path", "value", "field", "said"), SPOILT)
def test_error(files: Any, file: str, path: str, value: Any, field: str, said: str) -> None:
    files.edit(file, path, value)
    cluster, report = files.cluster()
    assert cluster is None
    errors = {problem.field: problem for problem in report.errors}
    assert field in errors, [str(problem) for problem in report.problems]
    assert said in str(errors[field])
    assert errors[field].line > 0


WARNED: list[tuple[str, str, Any, str, str]] = [
    ("storeconfig", "stores.0.pub_ids", [1, 2], "stores[0].pub_ids[1]", "pub 2 is not in topicconfig.conf"),
    ("storeconfig", "stores.0.addrs.2.kind", "learner", "stores[0].addrs", "2 voting nodes survive no more"),
    ("topicconfig", "pubs.0.queue_info_ids", [1], "queue_infos[1].queue_info_id", "queue_info 2 is in no pub"),
    ("topicconfig", "pubs.0.consumer_group_ids", [], "pubs[0].consumer_group_ids", "nobody would read"),
    ("topicconfig", "pubs.0.consumer_group_ids", [1], "consumer_groups[1].consumer_group_id", "is in no pub"),
    ("topicconfig", "skip_infos", [{}], "skip_infos[0]", "matches every item"),
    ("topicconfig", "topic.store_paxos_log_sync", 1, "topic.store_paxos_log_sync", "ignored; every acknowledged"),
    ("topicconfig", "queue_infos.0.sleep_us_per_get", 1, "queue_infos[0].sleep_us_per_get", "ignored"),
    ("topicconfig", "replay_infos", [{"timestamp": 1}], "replay_infos", "this version has no replay from files"),
    ("consumerconfig", "consumers.0.scale", 0, "consumer_groups[0].consumer_group_id", "its items pile up"),
    ("consumerconfig", "consumers", [], "consumer_groups[1].consumer_group_id", "its items pile up"),
    (
        "storeconfig",
        "stores.0.addrs.2",
        {"ip": "127.0.0.1", "port": 1, "paxos_port": 2, "kind": "witness", "election_priority": 1},
        "stores[0].addrs[2].election_priority",
        "never master",
    ),
]


@pytest.mark.parametrize(("file", "path", "value", "field", "said"), WARNED)
def test_warning(files: Any, file: str, path: str, value: Any, field: str, said: str) -> None:
    files.edit(file, path, value)
    cluster, report = files.cluster()
    assert report.errors == ()
    assert cluster is not None
    assert cluster.warnings == report.warnings
    said_of = {problem.field: str(problem) for problem in report.warnings}
    assert said in said_of[field]


def test_no_voter(files: Any) -> None:
    for node in files.storeconfig["stores"][0]["addrs"]:
        node["kind"] = "witness"
    assert "nobody could be master" in str(files.cluster()[1].errors[0])


def test_an_ignored_group_needs_no_consumer(files: Any) -> None:
    files.edit("topicconfig", "topic.consumer_ignore_consumer_group_ids", [1, 3])
    files.edit("consumerconfig", "consumers", [])
    assert files.cluster()[1].problems == ()


def test_wide_ranges_hide_no_overlap(files: Any) -> None:
    files.edit("topicconfig", "queue_infos.0.ranges", ["0-100", "5-6"])
    files.edit("topicconfig", "queue_infos.1.ranges", ["50-60"])
    found = [problem.field for problem in files.cluster()[1].errors]
    assert found == ["queue_infos[0].ranges[1]", "queue_infos[1].ranges[0]"]


def test_dead_letter_base_in_a_wide_range_is_refused_at_once(files: Any) -> None:
    files.edit("topicconfig", "queue_infos.0.ranges", ["0-9999999999"])
    assert "queue ids below" in str(files.cluster()[1].errors[0])


def test_problem_names_file_line_field(files: Any, line_of: Callable[[Path, str], int]) -> None:
    files.edit("storeconfig", "stores.0.addrs.1.port", "51x")
    _, report = files.cluster()
    [problem] = report.errors
    path = files.directory / "storeconfig.conf"
    assert (problem.file, problem.line, problem.field) == (path, line_of(path, "51x"), "stores[0].addrs[1].port")
    assert str(problem).endswith('stores[0].addrs[1].port: found "51x"; allowed: a whole number from 1 to 65535')


def test_what_only_follows_from_a_problem_is_not_reported(files: Any) -> None:
    files.edit("topicconfig", "queue_infos.1.ranges", ["0-3 7"])
    files.edit("storeconfig", "stores.0.master_lease_ms", "5s")
    files.edit("storeconfig", "stores.0.heartbeat_interval_ms", 1000)
    _, report = files.cluster()
    assert [problem.field for problem in report.problems] == ["queue_infos[1].ranges[0]", "stores[0].master_lease_ms"]


def test_every_problem_of_every_file_in_one_report(files: Any) -> None:
    files.edit("globalconfig", "clustername", "x")
    files.edit("topicconfig", "topic.batch_limit", "many")
    files.edit("topicconfig", "queue_infos.1.ranges", ["3"])
    files.edit("topicconfig", "pubs.0.queue_info_ids", [1, 9])
    files.edit("storeconfig", "stores.0.addrs.0.port", 5300)
    files.edit("storeconfig", "stores.0.heartbeat_interval_ms", True)
    files.edit("consumerconfig", "consumers.0.consumer_group_ids", [7])
    files.edit("schedulerconfig", "scheduler.addr", [])
    files.edit("lockconfig", "locks.0.lock_id", None)
    with pytest.raises(ConfigError) as caught:
        load_cluster(files.write())
    found = {(problem.file.name, problem.field) for problem in caught.value.report.errors}
    assert found == {
        ("globalconfig.conf", "clustername"),
        ("topicconfig.conf", "topic.batch_limit"),
        ("topicconfig.conf", "queue_infos[1].ranges[0]"),
        ("topicconfig.conf", "pubs[0].queue_info_ids[1]"),
        ("storeconfig.conf", "stores[0].addrs[2].port"),
        ("storeconfig.conf", "stores[0].heartbeat_interval_ms"),
        ("consumerconfig.conf", "consumers[0].consumer_group_ids[0]"),
        ("schedulerconfig.conf", "scheduler.addr"),
        ("lockconfig.conf", "locks[0].lock_id"),
    }
    assert str(caught.value).count("\n") == len(caught.value.report.errors) - 1
    lines = [problem.line for problem in caught.value.report.errors if problem.file.name == "topicconfig.conf"]
    assert lines == sorted(lines)


def test_a_malformed_file_does_not_hide_the_others(files: Any) -> None:
    files.edit("topicconfig", "queue_infos.1.ranges", ["3"])
    path = files.write()
    (files.directory / "storeconfig.conf").write_text("stores: [\n")
    with pytest.raises(ConfigError) as caught:
        load_cluster(path)
    assert {problem.file.name for problem in caught.value.report.errors} == {"topicconfig.conf", "storeconfig.conf"}


def places(value: Any, path: tuple[str, ...] = ()) -> list[str]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [
        *([".".join(path)] if path else []),
        *(found for key, part in inner for found in places(part, (*path, str(key)))),
    ]


NAMES = ("globalconfig", "topicconfig", "storeconfig", "consumerconfig", "schedulerconfig", "lockconfig")
ODD = st.sampled_from(
    [None, True, -1, 0, 1, 65, 1 << 20, 1 << 70, 0.5, "", "x", "1", "0-9", [], [None], [[1]], {}, {"a": 1}]
)


@given(st.data())
@hypothesis.settings(max_examples=25, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_no_odd_value_anywhere_is_more_than_a_report(files: Any, data: st.DataObject) -> None:
    spoilt = type(files)(files.directory)
    for _ in range(data.draw(st.integers(1, 3))):
        file = data.draw(st.sampled_from(NAMES))
        path = data.draw(st.sampled_from(places(getattr(spoilt, file)) or ["x"]))
        spoilt.edit(file, path, copy.deepcopy(data.draw(ODD)))
    cluster, report = spoilt.cluster()
    assert (cluster is None) == bool(report.errors)
    assert all("\n" not in str(problem) for problem in report.problems)


class TestTwoTopics:
    @pytest.fixture
    def second(self, files: Any, tmp_path: Path) -> Any:
        other = type(files)(tmp_path / "second")
        other.directory.mkdir()
        other.edit("topicconfig", "topic.topic_id", 2000)
        other.edit(
            "storeconfig",
            "stores",
            [{"store_id": 2, "addrs": [{"ip": "127.0.0.1", "port": 15100, "paxos_port": 15101}]}],
        )
        other.edit("consumerconfig", "consumers.0.addr.port", 9001)
        info = {
            name: f"second/{value}" if name.endswith("_path") else value
            for name, value in files.globalconfig["topic_infos"][0].items()
            if not name.startswith(("scheduler", "lock"))
        }
        files.globalconfig["topic_infos"].append({**info, "topic_id": 2000, "topic_name": "other"})
        return other

    def report(self, files: Any, second: Any) -> Any:
        second.write()
        return files.cluster()

    def test_both_load(self, files: Any, second: Any) -> None:
        cluster, report = self.report(files, second)
        assert report.errors == ()
        assert [topic.topic_name for topic in cluster.topics] == ["test", "other"]
        assert cluster.topic("other").locks == ()

    def test_same_name_and_number(self, files: Any, second: Any) -> None:
        files.edit("globalconfig", "topic_infos.0.topic_name", "other")
        _, report = self.report(files, second)
        assert [problem.field for problem in report.errors] == ["topic_infos[1].topic_name"]

    def test_store_ids_are_unique_in_the_cluster(self, files: Any, second: Any) -> None:
        second.edit("storeconfig", "stores.0.store_id", 1)
        _, report = self.report(files, second)
        [problem] = report.errors
        assert problem.file == second.directory / "storeconfig.conf"
        assert "storeconfig.conf; unique in the whole cluster" in str(problem)

    def test_ports_are_unique_in_the_cluster(self, files: Any, second: Any) -> None:
        second.edit("storeconfig", "stores.0.addrs.0.port", 6100)
        _, report = self.report(files, second)
        [problem] = report.errors
        assert (problem.file, problem.field) == (second.directory / "storeconfig.conf", "stores[0].addrs[0].port")
        assert "found 127.0.0.1:6100, given already in line" in problem.found

    def test_every_topic_has_its_own_files(self, files: Any, second: Any) -> None:
        files.globalconfig["topic_infos"][1]["consumer_config_path"] = "consumerconfig.conf"
        _, report = self.report(files, second)
        [problem] = report.errors
        assert problem.field == "topic_infos[1].consumer_config_path"
        assert "used already" in problem.found


class TestPaths:
    def test_beside_the_file_first(self, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        directory = tmp_path / "etc"
        directory.mkdir()
        inner, outer = type(files)(directory), files
        outer.edit("topicconfig", "topic.handle_ids", [9])
        outer.write()
        monkeypatch.chdir(tmp_path)
        assert load_cluster(inner.write()).topics[0].handle_ids == (1, 2)

    def test_then_one_directory_up(self, files: Any, tmp_path: Path) -> None:
        directory = tmp_path / "etc"
        directory.mkdir()
        inner = type(files)(directory)
        for name, value in list(inner.globalconfig["topic_infos"][0].items()):
            if name.endswith("_path"):
                inner.globalconfig["topic_infos"][0][name] = f"etc/{value}"
        assert load_cluster(inner.write()).topics[0].topic_name == "test"

    def test_then_the_working_directory(self, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files.write()
        far = tmp_path / "a" / "b" / "c"
        far.mkdir(parents=True)
        (tmp_path / "globalconfig.conf").rename(far / "globalconfig.conf")
        monkeypatch.chdir(tmp_path)
        assert load_cluster(far / "globalconfig.conf").topics[0].topic_name == "test"

    def test_else_the_places_tried_are_named(self, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        directory = tmp_path / "etc"
        directory.mkdir()
        inner = type(files)(directory)
        inner.edit("globalconfig", "topic_infos.0.lock_config_path", "x.conf")
        with pytest.raises(ConfigError, match=r"tried etc/x\.conf, x\.conf$"):
            load_cluster(inner.write())


class TestTls:
    def test_off_for_loopback(self, files: Any) -> None:
        files.edit("globalconfig", "tls", "off")
        cluster, _ = files.cluster()
        assert (cluster.tls, cluster.certificates) == (None, None)

    def test_off_nowhere_else(self, files: Any) -> None:
        files.edit("globalconfig", "tls", "off")
        files.edit("storeconfig", "stores.0.addrs.1.ip", "10.0.0.1")
        _, report = files.cluster()
        [problem] = report.errors
        assert (problem.field, problem.found) == ("tls", "off, but 10.0.0.1 is not a loopback address")

    def test_certificates_beside_the_file(self, files: Any) -> None:
        cluster, _ = files.cluster()
        assert cluster.certificates == files.directory / "certs"
        assert cluster.tls.certificate == files.directory / "certs" / "client.pem"

    def test_other_places(self, files: Any, tmp_path: Path) -> None:
        files.edit("globalconfig", "tls", {"directory": "/x/y", "key": "/z.key"})
        cluster, _ = files.cluster()
        assert cluster.certificates == Path("/x/y")
        assert (cluster.tls.ca, cluster.tls.key) == (Path("/x/y/ca.pem"), Path("/z.key"))

    def test_yes_is_no_switch(self, files: Any) -> None:
        files.edit("globalconfig", "tls", "yes")
        _, report = files.cluster()
        assert report.errors[0].found == 'found "yes"'


def test_nodes_keep_their_numbers_when_one_is_taken_out(files: Any) -> None:
    first, _, third = files.storeconfig["stores"][0]["addrs"]
    files.storeconfig["stores"][0]["addrs"] = [first, {**third, "node_id": 2}]
    cluster, report = files.cluster()
    assert report.errors == ()
    assert [node.node_id for node in cluster.topics[0].stores[0].nodes] == [0, 2]


@pytest.mark.parametrize(
    ("field", "value", "warned"),
    [
        ("topic.producer_no_master_patience_s", 2.0, True),
        ("topic.producer_no_master_patience_s", 30.0, False),
        ("topic.store_paxos_propose_timeout_ms", 1500, True),
    ],
)
def test_clients_less_patient_than_a_lease_are_warned_of(files: Any, field: str, value: Any, warned: bool) -> None:
    files.edit("storeconfig", "stores.0.master_lease_ms", 2500)
    files.edit("topicconfig", "topic.producer_no_master_patience_s", 30.0)
    files.edit("topicconfig", "topic.store_paxos_propose_timeout_ms", 6000)
    files.edit("topicconfig", field, value)
    _, report = files.cluster()
    assert report.ok
    told = [problem for problem in report.problems if problem.field == "stores[0].master_lease_ms"]
    assert bool(told) == warned
    assert all(field.partition(".")[2] in str(problem) for problem in told)
