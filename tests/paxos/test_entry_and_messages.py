"""Entries and their checksums; messages and how they map onto the wire."""

from __future__ import annotations

from dataclasses import fields

import pytest
import xxhash

from phxqueue.paxos import messages
from phxqueue.paxos.ballot import make_ballot, next_ballot, node_of, round_of
from phxqueue.paxos.entry import Entry, EntryKind, entry_checksum, make_entry, reballoted


@pytest.mark.parametrize("size", [0, 1, 100, 16 * 1024 - 1, 16 * 1024, 100_000])
def test_the_checksum_is_xxh3_over_kind_and_payload_whatever_the_size(size: int) -> None:
    payload = bytes(size)
    assert entry_checksum(2, payload) == xxhash.xxh3_64_intdigest(b"\x02" + payload)


def test_an_entry_knows_when_it_was_altered() -> None:
    entry = make_entry(1, EntryKind.VALUE, b"payload")
    assert entry.valid()
    assert not Entry(1, EntryKind.VALUE, entry.checksum, b"paylaod").valid()
    assert not Entry(1, EntryKind.NOOP, entry.checksum, b"payload").valid()


def test_the_checksum_does_not_cover_the_ballot_so_that_a_value_may_be_proposed_again() -> None:
    entry = make_entry(1, EntryKind.VALUE, b"payload")
    again = reballoted(entry, 99)
    assert again.valid()
    assert again.ballot == 99
    assert again.same_value(entry)
    assert not again.same_value(make_entry(99, EntryKind.VALUE, b"other"))


def test_ballots_order_by_round_and_never_collide() -> None:
    assert make_ballot(1, 65535) < make_ballot(2, 0)
    assert (round_of(make_ballot(7, 3)), node_of(make_ballot(7, 3))) == (7, 3)
    assert next_ballot(make_ballot(7, 3), 1) == make_ballot(8, 1)


def test_every_message_maps_every_attribute_to_a_field_of_its_own() -> None:
    classes = [c for c in vars(messages).values() if isinstance(c, type) and issubclass(c, messages.Message)]
    for cls in classes:
        if cls is messages.Message:
            continue
        mapped = messages.WIRE_FIELDS[cls]
        assert [attribute for attribute, _ in mapped] == [field.name for field in fields(cls)[2:]]
        assert len({wire for _, wire in mapped}) == len(mapped)
        assert messages.MESSAGE_CLASSES[cls.type] is cls
    assert len(messages.MESSAGE_CLASSES) == len(classes) - 1 == len(messages.MessageType)
