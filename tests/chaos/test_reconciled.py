"""A ledger that says something else than the books is a finding."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.reconciled import compare, summary
from tests.integration.ledger import Books

BOOKS = Books(confirmed={(1, 0), (1, 1)}, unknown={(1, 2)})
TOTAL = {"pub_id": 1, "consumer_group_id": 1, "produced": 2, "stored": 3, "unreported": 1, "outstanding": 0}
OTHER = {"pub_id": 2, "consumer_group_id": 2, "produced": 7, "stored": 7, "outstanding": 3}


def document(difference: int = 0, **total: int) -> dict[str, Any]:
    totals = [{**TOTAL, "difference": difference, **total}, OTHER]
    return {"difference": difference, "missing": [], "disputes": [], "totals": totals}


def test_what_agrees() -> None:
    assert compare(document(), BOOKS, 3) == []
    assert compare(document(produced=3, unreported=0), BOOKS, 3) == []  # it heard of the third one in the end
    assert "produced 2, stored 3" in summary(document())


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (document(produced=1), "produced is 1, by the books 2 to 3"),
        (document(produced=4), "produced is 4"),
        (document(stored=2), "stored is 2, by the books 3 to 3"),
        (document(outstanding=1), "outstanding is 1"),
        (document(unreported=2), "unreported is 2, by the books 0 to 1"),
        (document(difference=4), "4 items of difference"),
        ({**document(), "missing": ["store 1 does not answer"]}, "incomplete: store 1 does not answer"),
        ({**document(), "disputes": ["queue 7"]}, "disputed: queue 7"),
        ({**document(), "totals": [OTHER]}, "produced is 0"),
    ],
)
def test_what_does_not(told: dict[str, Any], words: str) -> None:
    assert any(words in line for line in compare(told, BOOKS, 3))
