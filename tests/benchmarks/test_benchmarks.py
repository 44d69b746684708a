"""The benchmarks' own arithmetic; that they run at all is tested by running them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from benchmarks import calibration
from benchmarks.__main__ import speed_table
from benchmarks.delayed_state import measure_delayed
from benchmarks.disk_witness import DiskWitness
from benchmarks.failover import Confirmations, Gaps, summary
from benchmarks.lock_work import Report
from benchmarks.locks import Failover, Row
from benchmarks.locks import table as lock_table
from benchmarks.profiling import summarize
from benchmarks.reader import TIMESTAMP, Tally
from benchmarks.scenarios import SCENARIOS
from benchmarks.speed import Measured
from phxqueue.admin.load import LoadResult
from phxqueue.proto.item_pb2 import QItem, QItems
from phxqueue.proto.store_pb2 import GetBatch, GetResponse


def test_the_machine_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISK_SECONDS", "LOOP_SECONDS", "TLS_SECONDS"):
        monkeypatch.setattr(calibration, name, 0.02)
    found = calibration.calibrate(tmp_path)
    assert 0 < found.fdatasync_us <= found.fdatasync_p99_us
    assert found.loops_per_s > 0
    assert found.tls_round_trips_per_s > 0
    assert found.lines("before")[0].count("|") == calibration.HEADER[0].count("|")
    assert [path.name for path in tmp_path.iterdir()] == ["calibration-certs"]


def test_the_longest_gap_between_confirmations() -> None:
    clock = Clock()
    seen = Confirmations(clock)
    for pause in (0.5, 0.01, 0.01):
        clock.advance(pause)
        seen(1)
    assert seen.longest() == pytest.approx(0.5)
    seen.begin()
    for pause in (0.01, 0.3, 0.02):
        clock.advance(pause)
        seen(1)
    assert seen.longest() == pytest.approx(0.3)
    clock.advance(2.0)  # and then nothing more
    assert seen.longest() == pytest.approx(2.0)


def test_the_summary_of_kills() -> None:
    lines = summary(
        Gaps(
            killed=[0.3, 0.5, 0.4],
            killed_disk=[0.1, 0.2, 0.0],
            returned=[0.01, 0.02, 0.03],
            returned_disk=[0.0, 0.0, 0.01],
            errors=2,
            first_error="no answer",
        )
    )
    assert "| master killed (SIGKILL) | 0.400 s | 0.500 s | 0.30 (0.10), 0.50 (0.20), 0.40 (0.00) |" in lines
    assert "| killed node returns | 0.020 s | 0.030 s | 0.01 (0.00), 0.02 (0.00), 0.03 (0.01) |" in lines
    assert lines[-1] == "enqueues that failed: 2 (first: no answer)"


def test_the_disk_is_watched_while_something_is_measured(tmp_path: Path) -> None:
    with DiskWitness(tmp_path) as disk:
        while not disk.longest():
            pass
        disk.begin()
    assert list(tmp_path.iterdir()) == []


def test_samples_are_counted_by_function() -> None:
    samples = ["main (/x/run.py:1);work (/x/phxqueue/net/rpc.py:5) 3", "main (/x/run.py:2) 1", "<built-in> 1"]
    profile = summarize("master", samples)
    assert profile.samples == 5
    assert profile.own == {"work net/rpc.py": 3, "main x/run.py": 1, "<built-in>": 1}
    assert profile.total["main x/run.py"] == 4
    assert profile.lines()[1].split()[:4] == ["60.0", "%", "60.0", "%"]


def test_the_reader_counts_and_measures() -> None:
    items = QItems(items=[QItem(buffer=TIMESTAMP.pack(0) + b"x"), QItem(buffer=TIMESTAMP.pack(0))])
    content = items.SerializeToString()
    tally = Tally(measure=True)
    tally.take(GetResponse(batches=[GetBatch(items=content)] * 3), 0)
    report = tally.report()
    assert (report["items"], report["bytes"], report["answers"]) == (6, 3 * len(content), 1)
    assert tally.latencies.count == 6


def test_the_table_has_a_row_for_every_scenario() -> None:
    rows = []
    for scenario in SCENARIOS:
        load = LoadResult(started=0.0, ended=2.0)
        load.statuses["OK"] = 10_000
        load.latencies.record(0.001)
        rows.append(Measured(scenario, load, 4900.0, 0, {0.5: 1500, 0.99: 4000, 0.999: 6000}, {"client": 0.5}))
    lines = speed_table(rows)
    assert len(lines) == 2 + len(SCENARIOS)
    assert len({line.count("|") for line in lines}) == 1
    assert "| 5,000/s | 1,190/s | 4.20 | 1.00 ms | 1.00 ms |" in lines[2]
    assert lines[2].endswith("| client 0.50 | 100.0 µs |")
    assert "| 1.50 ms | 4.00 ms | p99.9 6.00 ms |" in lines[-1]


def test_the_table_of_locks() -> None:
    def run(rate: float, errors: int = 0) -> dict[str, Any]:
        return {"rate": rate, "p50_ms": 1.0, "p99_ms": 2.0, "errors": errors}

    rows = [Row("lock", 64, ours=[run(100), run(300), run(200)], etcd=[run(100, 1), run(90), run(110)])]
    lines = lock_table(rows, Failover(ours=[0.3, 0.5, 0.4], ours_disk=[0.0, 0.1, 0.0]))
    assert lines[2] == "| acquire + release | 64 | 200/s | 1.00 / 2.00 | 100/s | 1.00 / 2.00 | 2.00 | 1 |"
    assert "0.40 s without an answer" in lines[4]
    assert "0.50 (0.10)" in lines[5]


def test_what_a_worker_reports() -> None:
    report = Report(seconds=0.0)
    report.begin, report.end = 0.0, 1e12
    assert report.done(began=0.0)
    report.failed(ValueError("first"))
    report.failed(ValueError("second"))
    document = report.document()
    assert (document["errors"], document["first_error"]) == (2, "ValueError: first")
    assert document["rate"] == pytest.approx(1e-12)


def test_what_delayed_items_cost() -> None:
    found = measure_delayed(1000)
    assert "| waiting, each due at another time of a day | 1,000 |" in found.lines()
    assert found.add > 0
