"""Recording, files, whole histories and the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from phxqueue.testing.linearizability import (
    HistoryError,
    Operation,
    Recorder,
    Verdict,
    check_history,
    read_history,
    write_history,
)
from phxqueue.testing.linearizability.__main__ import main

LINE = (
    '{"object": "o", "key": "k", "client": "c", "name": "n", "arguments": {}, "call": %s, "return": %s, "result": %s}'
)


class Ticks:
    """A clock that goes on by one at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def recorded(last_read: int = 5) -> list[Operation]:
    recorder = Recorder(Ticks())
    write = recorder.call("register", "a", "one", "write", value=5)
    read = recorder.call("register", "a", "two", "read")
    recorder.returned(write)
    recorder.returned(read, value=last_read)
    lost, refused, found, open_still = (recorder.call("queue-end", "1/0", "one", "append", count=1) for _ in range(4))
    recorder.unknown(lost)
    recorder.refused(refused)
    recorder.took_effect(found, first=0)
    assert open_still
    return recorder.operations()


def test_what_is_recorded() -> None:
    assert [str(operation) for operation in recorded()] == [
        "[1.000000 to 3.000000] one: write(value=5) -> done",
        "[2.000000 to 4.000000] two: read() -> value=5",
        "[5.000000 to ...] one: append(count=1) -> ?",
        "[7.000000 to ...] one: append(count=1) -> first=0",
        "[8.000000 to ...] one: append(count=1) -> ?",
    ]


def test_files_keep_everything() -> None:
    assert list(read_history(write_history(recorded()))) == recorded()
    assert list(read_history(["", "\n"])) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 1 is not an operation: JSONDecodeError"),
        ("[]", "line 1 is not an operation: TypeError"),
        ("{}", "line 1 is not an operation: KeyError: 'object'"),
        (
            LINE % ("1", "2", "null"),
            "an operation that returned has a result",
        ),
        (
            LINE % ("3", "2", "{}"),
            "returned before it was called",
        ),
    ],
)
def test_lines_that_are_no_operations(line: str, reason: str) -> None:
    with pytest.raises(HistoryError, match=reason):
        list(read_history([line]))


def test_objects_are_checked_apart() -> None:
    report = check_history(recorded())
    assert set(report.results) == {("register", "a"), ("queue-end", "1/0")}
    assert report.verdict is Verdict.LINEARIZABLE
    assert str(report).startswith("5 operations on 2 objects")


def test_a_report_shows_what_cannot_be_explained() -> None:
    report = check_history(recorded(last_read=6))
    assert report.verdict is Verdict.NOT_LINEARIZABLE
    assert "register a: not linearizable" in str(report)
    assert "    [2.000000 to 4.000000] two: read() -> value=6" in str(report)


def test_undecided_is_worse_than_linearizable_and_better_than_not() -> None:
    reads = [operation for operation in recorded() if operation.object == "register"]
    assert check_history(reads, max_states=1).verdict is Verdict.UNDECIDED
    assert "undecided" in str(check_history(reads, max_states=1))


def test_an_unknown_kind_of_object() -> None:
    recorder = Recorder(Ticks())
    recorder.call("vase", "k", "c", "break")
    with pytest.raises(HistoryError, match="vase k: no such kind of object; known are cursor, lock, queue-end"):
        check_history(recorder.operations())


@pytest.mark.parametrize(("last_read", "status"), [(5, 0), (6, 1)])
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], last_read: int, status: int) -> None:
    lines = list(write_history(recorded(last_read)))
    (tmp_path / "one").write_text(lines[0] + "\n")
    (tmp_path / "two").write_text("\n".join(lines[1:]))
    assert main([str(tmp_path / "one"), str(tmp_path / "two")]) == status
    assert "5 operations on 2 objects" in capsys.readouterr().out


def test_the_command_tells_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, vase = tmp_path / "bad", tmp_path / "vase"
    bad.write_text("nonsense")
    vase.write_text(next(iter(write_history(recorded()))).replace("register", "vase"))
    assert main([str(bad)]) == 2
    assert main([str(tmp_path / "absent")]) == 2
    assert main([str(vase)]) == 2
    told = capsys.readouterr().err
    assert "line 1 is not an operation" in told
    assert "No such file" in told
    assert "no such kind of object" in told


def test_the_command_says_undecided(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("\n".join(write_history(recorded())))
    assert main([str(tmp_path / "one"), "--states", "1"]) == 2
