"""What a configuration lets in and out."""

from __future__ import annotations

import pytest

from phxqueue.config import dead_letter_queue
from phxqueue.store.served import ALL_GROUPS, ServedQueues, groups_of
from tests.store.fakes import topic


@pytest.fixture
def served() -> ServedQueues:
    of = topic(batch_limit=7, items_byte_size_limit=4096)
    return ServedQueues(of, of.stores[0])


def test_serves_the_attempt_chains_and_dead_letters_of_its_pubs(served: ServedQueues) -> None:
    ordinary, retry = served.queue(3), served.queue(8)
    assert ordinary is not None
    assert retry is not None
    assert (ordinary.pubs, ordinary.readers, ordinary.delay_ms, ordinary.by_mask) == ({1: 0b11}, 0b11, 0, True)
    assert retry.delay_ms == 60_000
    dead = served.queue(dead_letter_queue(2))
    assert dead is not None
    assert (dead.pubs, dead.readers, dead.by_mask) == ({2: 0b100}, ALL_GROUPS, False)


def test_does_not_serve_what_belongs_to_others(served: ServedQueues) -> None:
    assert served.queue(15) is None
    assert served.queue(dead_letter_queue(3)) is None
    shared = served.queue(20)
    assert shared is not None
    assert shared.pubs == {2: 0b100}  # pub 3 uses it as well, on other stores


def test_says_why_not(served: ServedQueues) -> None:
    assert "pub 3 is not served by store 1, which serves pubs 1, 2 of topic test" in served.why_not(20, 3)
    assert "queue 15 is not served by store 1: it is in no queue_info of the pubs 1, 2" in served.why_not(15)
    assert served.why_not(20, 1) == "queue 20 belongs to pub 2, not to pub 1"


def test_takes_its_limits_from_the_topic(served: ServedQueues) -> None:
    assert (served.max_batch_items, served.max_batch_bytes) == (7, 4096)
    assert served.max_request_bytes == 4 << 20


def test_groups_are_named_by_number() -> None:
    assert groups_of(0) == "none"
    assert groups_of(0b1011) == "1, 2, 4"
    assert groups_of(1 << 63) == "64"
    assert groups_of(ALL_GROUPS).endswith("10, ... (64 in all)")
