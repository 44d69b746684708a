"""Paxos messages to protobuf and back. Heartbeats of all groups travel as parallel arrays in one message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from phxqueue.paxos.entry import Entry
from phxqueue.paxos.messages import MESSAGE_CLASSES, WIRE_FIELDS, Heartbeat, HeartbeatReply, Message
from phxqueue.proto.paxos_pb2 import HeartbeatBundle, PaxosMessage, PeerFrame

_PLAIN_FIELDS = {
    cls: tuple((attribute, field) for attribute, field in fields if field != "entries")
    for cls, fields in WIRE_FIELDS.items()
}
_HAS_ENTRIES = {cls for cls, fields in WIRE_FIELDS.items() if any(field == "entries" for _, field in fields)}
_DECODERS: dict[int, tuple[Callable[..., Message], attrgetter[tuple[Any, ...]], bool]] = {
    number: (cls, attrgetter(*(field for _, field in WIRE_FIELDS[cls])), cls in _HAS_ENTRIES)
    for number, cls in MESSAGE_CLASSES.items()
}


class UndecodableMessage(ValueError):
    """A frame of a peer that this program does not understand."""


def encode_frame(sender: int, messages: Sequence[tuple[int, Message]]) -> PeerFrame:
    """Put (group_id, message) pairs of one sender to one receiver into a frame."""
    frame = PeerFrame(sender=sender)
    for group_id, message in messages:
        if isinstance(message, Heartbeat):
            _append(frame.heartbeats, group_id, message)
        elif isinstance(message, HeartbeatReply):
            _append(frame.heartbeat_replies, group_id, message)
        else:
            _encode(frame.messages.add(), group_id, message)
    return frame


def decode_frame(frame: PeerFrame, sender: int, receiver: int) -> list[tuple[int, Message]]:
    """Return the (group_id, message) pairs of a frame; `sender` is who the connection proved to be.

    Raises UndecodableMessage for an unknown message type or a bundle whose arrays differ in length.
    """
    messages = [(encoded.group_id, _decode(encoded, sender, receiver)) for encoded in frame.messages]
    if frame.HasField("heartbeats"):
        messages.extend(_unbundle(frame.heartbeats, Heartbeat, sender, receiver))
    if frame.HasField("heartbeat_replies"):
        replies = _unbundle(frame.heartbeat_replies, HeartbeatReply, sender, receiver)
        incomplete = set(frame.heartbeat_replies.incomplete)
        reluctant = set(frame.heartbeat_replies.reluctant)
        for group_id, reply in replies if incomplete or reluctant else ():
            if isinstance(reply, HeartbeatReply):
                reply.incomplete = group_id in incomplete
                reply.reluctant = group_id in reluctant
        messages.extend(replies)
    return messages


def _encode(encoded: PaxosMessage, group_id: int, message: Message) -> None:
    cls = type(message)
    encoded.group_id = group_id
    encoded.type = cls.type
    for attribute, field in _PLAIN_FIELDS[cls]:
        setattr(encoded, field, getattr(message, attribute))
    if cls in _HAS_ENTRIES:
        add = encoded.entries.add
        for instance, entry in message.entries:  # type: ignore[attr-defined]
            add(
                instance=instance,
                ballot=entry.ballot,
                checksum=entry.checksum,
                kind=entry.kind,
                payload=entry.payload,
            )


def _decode(encoded: PaxosMessage, sender: int, receiver: int) -> Message:
    known = _DECODERS.get(encoded.type)
    if known is None:
        raise UndecodableMessage(f"node {sender} sent a message of unknown type {encoded.type}")
    make, fields, has_entries = known
    values = fields(encoded)
    if has_entries:
        # "entries" is the last field of every message that has it.
        entries = tuple(
            (entry.instance, Entry(entry.ballot, entry.kind, entry.checksum, entry.payload))
            for entry in encoded.entries
        )
        return make(sender, receiver, *values[:-1], entries)
    return make(sender, receiver, *values)


def _append(bundle: HeartbeatBundle, group_id: int, message: Heartbeat | HeartbeatReply) -> None:
    bundle.group_ids.append(group_id)
    bundle.ballots.append(message.ballot)
    bundle.chosen.append(message.chosen)
    bundle.times.append(message.time)
    bundle.versions.append(message.version)
    if isinstance(message, HeartbeatReply):
        if message.incomplete:
            bundle.incomplete.append(group_id)
        if message.reluctant:
            bundle.reluctant.append(group_id)


def _unbundle(
    bundle: HeartbeatBundle, cls: type[Heartbeat] | type[HeartbeatReply], sender: int, receiver: int
) -> list[tuple[int, Message]]:
    arrays = (bundle.group_ids, bundle.ballots, bundle.chosen, bundle.times, bundle.versions)
    if len({len(array) for array in arrays}) != 1:
        raise UndecodableMessage(f"node {sender} sent a heartbeat bundle whose arrays differ in length")
    return [
        (group_id, cls(sender, receiver, ballot, chosen, time, version))
        for group_id, ballot, chosen, time, version in zip(*arrays, strict=True)
    ]
