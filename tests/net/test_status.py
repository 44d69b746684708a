from __future__ import annotations

import re
from pathlib import Path

import pytest

from phxqueue.net.status import Retry, RpcError, Status

DOCUMENT = Path(__file__).parents[2] / "docs" / "wire-protocol.md"


def test_every_status_has_a_meaning() -> None:
    assert all(status.meaning.endswith(".") for status in Status)


def test_what_may_be_repeated() -> None:
    assert {status for status in Status if status.retry is Retry.OTHER_NODE} == {Status.NOT_MASTER, Status.NO_MASTER}
    assert {status for status in Status if status.retry is Retry.UNKNOWN_OUTCOME} == {
        Status.DEADLINE_EXCEEDED,
        Status.UNAVAILABLE,
        Status.INTERNAL,
    }
    assert Status.RESOURCE_EXHAUSTED.retry is Retry.SAME_AFTER_DELAY


def test_the_document_has_the_same_table() -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \| (.+?) \| (.+?) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert rows == [(str(int(status)), status.name, status.meaning, status.retry.value) for status in Status]


def test_a_status_of_a_newer_protocol_reads_as_internal() -> None:
    assert Status.from_wire(9) is Status.RESOURCE_EXHAUSTED
    assert Status.from_wire(77) is Status.INTERNAL


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_maybe_executed_follows_the_status_unless_the_sender_knows_better(status: Status) -> None:
    assert RpcError(status, "x").maybe_executed is (status.retry is Retry.UNKNOWN_OUTCOME)
    assert RpcError(status, "x", maybe_executed=False).maybe_executed is False


def test_an_error_reads_as_a_sentence() -> None:
    error = RpcError(Status.NOT_MASTER, "node 1 follows", redirect="127.0.0.1:5101")
    assert str(error) == "NOT_MASTER: node 1 follows (master: 127.0.0.1:5101)"
    assert "try again in 50 ms" in str(RpcError(Status.RESOURCE_EXHAUSTED, "full", retry_after_ms=50))
    assert Status.NOT_FOUND.meaning in str(RpcError(Status.NOT_FOUND, ""))
