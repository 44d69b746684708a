"""Plain tables, sizes and ages."""

from __future__ import annotations

import pytest

from phxqueue.admin.table import age, size, table


def test_columns_are_aligned() -> None:
    assert table(("NAME", "COUNT"), [("a", 1), ("longer", 12345)]) == [
        "  NAME    COUNT",
        "  a           1",
        "  longer  12345",
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (10 << 20, "10 MiB"),
        (79 << 30, "79 GiB"),
        (5 << 50, "5120 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.4, "59 s"), (185, "3 min 5 s"), (7200, "2 h 0 min"), (90_000, "1 d 1 h")]
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text
