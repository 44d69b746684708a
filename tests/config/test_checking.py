"""`phxqueue config check`: any files, any directories, one report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phxqueue.config import check

SAMPLES = Path(__file__).parents[2] / "etc"


def test_a_whole_directory(files: Any) -> None:
    files.write()
    report = check([files.directory])
    assert report.ok
    assert {path.name for path in report.files} == {path.name for path in files.directory.glob("*.conf")}


def test_the_samples_have_nothing_to_remark() -> None:
    report = check([SAMPLES])
    assert [str(problem) for problem in report.problems] == []
    assert len(report.files) == 22


def test_every_problem_once_though_many_files_name_it(files: Any) -> None:
    files.topicconfig["topic"]["handle_ids"] = [1, 1]
    files.consumer["handlers"] = {"1": "a:B"}
    files.write()
    report = check([files.directory])
    assert [problem.field for problem in report.problems] == ["topic.handle_ids[1]"]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("topicconfig", "queue_infos[1].ranges[0]"),
        ("storeconfig", "stores[0].master_lease_ms"),
        ("lockconfig", "locks[0].addrs"),
        ("consumerconfig", "consumers[0].addr.port"),
        ("schedulerconfig", "scheduler.addrs[0].port"),
    ],
)
def test_a_cluster_file_alone(files: Any, name: str, field: str) -> None:
    files.edit("topicconfig", "queue_infos.1.ranges", ["0"])
    files.edit("storeconfig", "stores.0.master_lease_ms", 100)
    files.edit("lockconfig", "locks.0.addrs", [])
    files.edit("consumerconfig", "consumers.0.addr.port", 0)
    files.edit("schedulerconfig", "scheduler.addrs.0.port", "x")
    files.write()
    renamed = files.directory / "some.thing"
    (files.directory / f"{name}.conf").rename(renamed)
    report = check([renamed])
    assert [problem.field for problem in report.errors] == [field]


def test_a_node_file_brings_its_cluster(files: Any) -> None:
    files.edit("storeconfig", "stores.0.master_lease_ms", 100)
    files.write()
    report = check([files.directory / "store.conf"])
    assert [problem.file.name for problem in report.errors] == ["storeconfig.conf"]


def test_a_file_is_also_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "globalconfig.conf").write_text("topicinfos: []\n")
    [unknown, missing] = check([tmp_path]).errors
    assert unknown.remedy == 'did you mean "topic_infos"?'
    assert missing.found == "missing"


def test_what_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.conf").write_text("a: 1\n")
    (tmp_path / "y.conf").write_text("a: [\n")
    report = check([tmp_path / "x.conf", tmp_path / "y.conf", tmp_path / "z.conf", tmp_path / "empty"])
    assert [(problem.file.name, problem.found.split(":")[0]) for problem in report.errors] == [
        ("x.conf", "is no configuration file of PhxQueue"),
        ("y.conf", "malformed"),
        ("z.conf", "cannot be read"),
        ("empty", "holds no *.conf file"),
    ]


def test_missing_certificates_when_asked(files: Any) -> None:
    path = files.write()
    assert check([path]).ok
    certs = files.directory / "certs"
    certs.mkdir()
    (certs / "ca.pem").touch()
    report = check([path], check_files=True)
    assert [problem.field for problem in report.errors] == ["tls.certificate", "tls.key"]
    assert "phxqueue certs init" in str(report.errors[0])
    node = check([files.directory / "store.conf", files.directory / "consumer.conf"], check_files=True)
    assert ["store-1-1.pem" in str(problem) for problem in node.errors] == [True, False, False, False]


def test_paths_are_told_as_seen_from_here(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    files.edit("storeconfig", "stores.0.scale", "x")
    files.write()
    monkeypatch.chdir(files.directory)
    assert str(check(["globalconfig.conf"]).errors[0]).startswith("storeconfig.conf:")
