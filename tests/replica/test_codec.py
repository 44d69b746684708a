"""Every message of the core survives its way over the wire unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.paxos import messages as m
from phxqueue.paxos.entry import Entry, make_entry
from phxqueue.proto.paxos_pb2 import PeerFrame
from phxqueue.replica.codec import UndecodableMessage, decode_frame, encode_frame

ballots = st.integers(0, 2**64 - 1)
instances = st.integers(-1, 2**62)
times = st.floats(0, 1e9)
entries = st.lists(
    st.tuples(instances, st.builds(make_entry, ballots, st.integers(0, 255), st.binary(max_size=50))), max_size=4
).map(tuple)

ME = (st.just(1), st.just(2))  # sender, receiver
versions = st.integers(0, 99)
MESSAGES = {
    m.PreVote: st.builds(m.PreVote, *ME, ballots, instances),
    m.PreVoteReply: st.builds(m.PreVoteReply, *ME, ballots, st.booleans(), ballots, instances, times),
    m.Prepare: st.builds(m.Prepare, *ME, ballots, instances, ballots),
    m.Promise: st.builds(m.Promise, *ME, ballots, instances, instances, st.booleans(), instances, entries),
    m.Accept: st.builds(m.Accept, *ME, ballots, instances, entries),
    m.Accepted: st.builds(m.Accepted, *ME, ballots, instances, instances, instances),
    m.Reject: st.builds(m.Reject, *ME, ballots, ballots, times),
    m.Heartbeat: st.builds(m.Heartbeat, *ME, ballots, instances, times, versions),
    m.HeartbeatReply: st.builds(
        m.HeartbeatReply, *ME, ballots, instances, times, st.integers(0, 99), st.booleans(), st.booleans()
    ),
    m.LearnRequest: st.builds(m.LearnRequest, *ME, instances, st.integers(1, 2**40)),
    m.LearnReply: st.builds(m.LearnReply, *ME, instances, instances, entries),
    m.HandOver: st.builds(m.HandOver, *ME, ballots, instances),
}


def test_every_message_class_is_covered() -> None:
    assert set(MESSAGES) == set(m.MESSAGE_CLASSES.values())


@given(st.lists(st.tuples(st.integers(0, 200), st.one_of(*MESSAGES.values())), max_size=8))
def test_round_trip(messages: list[tuple[int, m.Message]]) -> None:
    wire = encode_frame(1, messages).SerializeToString()
    decoded = decode_frame(PeerFrame.FromString(wire), 1, 2)

    def key(pair: tuple[int, m.Message]) -> bool:
        return isinstance(pair[1], (m.Heartbeat, m.HeartbeatReply))

    plain = [pair for pair in messages if not key(pair)]
    beats = [pair for pair in messages if isinstance(pair[1], m.Heartbeat)]
    replies = [pair for pair in messages if isinstance(pair[1], m.HeartbeatReply)]
    # Two answers of one group in one frame are of one moment: what one of them warns of, holds for both.
    incomplete = {group for group, reply in replies if isinstance(reply, m.HeartbeatReply) and reply.incomplete}
    reluctant = {group for group, reply in replies if isinstance(reply, m.HeartbeatReply) and reply.reluctant}
    for group, reply in replies:
        assert isinstance(reply, m.HeartbeatReply)
        reply.incomplete, reply.reluctant = group in incomplete, group in reluctant
    assert decoded == plain + beats + replies


def test_two_answers_of_a_group_in_one_frame_share_their_warnings() -> None:
    replies = [m.HeartbeatReply(1, 2, 0, 0, 0.0, 0, False, reluctant) for reluctant in (False, True)]
    decoded = decode_frame(encode_frame(1, [(0, reply) for reply in replies]), 1, 2)
    assert [reply.reluctant for _, reply in decoded if isinstance(reply, m.HeartbeatReply)] == [True, True]


def test_the_sender_is_who_the_connection_proved_to_be() -> None:
    frame = encode_frame(7, [(0, m.Prepare(7, 2, 5, 0))])
    ((_, message),) = decode_frame(frame, 1, 2)
    assert (message.sender, message.receiver) == (1, 2)


def test_payload_bytes_are_not_altered() -> None:
    entry = Entry(ballot=9, kind=0, checksum=123, payload=bytes(range(256)))
    frame = PeerFrame.FromString(encode_frame(0, [(0, m.Accept(0, 1, 9, -1, ((4, entry),)))]).SerializeToString())
    ((_, message),) = decode_frame(frame, 0, 1)
    assert isinstance(message, m.Accept)
    assert message.entries == ((4, entry),)


def test_an_unknown_type_is_refused() -> None:
    frame = PeerFrame(sender=1)
    frame.messages.add(type=99)
    with pytest.raises(UndecodableMessage, match="unknown type 99"):
        decode_frame(frame, 1, 2)


def test_a_ragged_bundle_is_refused() -> None:
    frame = PeerFrame(sender=1)
    frame.heartbeats.group_ids.extend([1, 2])
    frame.heartbeats.ballots.append(1)
    with pytest.raises(UndecodableMessage, match="differ in length"):
        decode_frame(frame, 1, 2)
