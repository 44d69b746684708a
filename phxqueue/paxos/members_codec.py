"""Members as bytes: what a MEMBERSHIP entry holds, and what a node keeps of the membership.

Fixed layouts with a version in front, for both outlive the program that wrote them: entries are in the log, states on
disk. Nothing here judges; ``membership`` does.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from phxqueue.paxos.config import Member, MemberKind
from phxqueue.paxos.errors import InvariantViolation

VERSION = 1

_COUNT = struct.Struct(">BH")
_MEMBER = struct.Struct(">HBiQH")
_CHANGE = struct.Struct(">BqI")
_STATE = struct.Struct(">BIH")
_STEP = struct.Struct(">qqI")


@dataclass(frozen=True, slots=True)
class Step:
    """One membership of the group: ``members`` from instance ``effective`` on, chosen at ``instance`` (-1: initial)."""

    instance: int
    effective: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What a MEMBERSHIP entry says.

    ``base`` is the instance at which the membership was chosen that this one was made from (-1: the initial one). The
    change counts only if that is still the last one: so changes form a chain, whatever masters raced.
    ``delay``: it takes effect so many instances after its own.
    """

    base: int
    delay: int
    members: tuple[Member, ...]


def encode_members(members: tuple[Member, ...]) -> bytes:
    """The whole list, version in front."""
    parts = [_COUNT.pack(VERSION, len(members))]
    for member in members:
        parts.append(
            _MEMBER.pack(member.node_id, member.kind, member.priority, member.incarnation, len(member.info))
            + member.info
        )
    return b"".join(parts)


def decode_members(data: bytes) -> tuple[Member, ...]:
    """The list again.

    :raises InvariantViolation: a newer program wrote it, or it is damaged: this node cannot know what a majority is.
    """
    members = []
    try:
        version, count = _COUNT.unpack_from(data)
        _check(version)
        at = _COUNT.size
        for _ in range(count):
            node_id, kind, priority, incarnation, size = _MEMBER.unpack_from(data, at)
            at += _MEMBER.size
            info = data[at : at + size]
            at += size
            members.append(Member(node_id, MemberKind(kind), priority, incarnation, bytes(info)))
    except (struct.error, ValueError) as error:
        raise InvariantViolation(f"a membership cannot be read: {error}") from error
    if at != len(data):
        raise InvariantViolation(f"a membership has {len(data)} bytes where {at} are expected")
    return tuple(members)


def encode_change(change: Change) -> bytes:
    """The payload of a MEMBERSHIP entry."""
    return _CHANGE.pack(VERSION, change.base, change.delay) + encode_members(change.members)


def decode_change(payload: bytes) -> Change:
    """The change again; raises like ``decode_members``."""
    try:
        version, base, delay = _CHANGE.unpack_from(payload)
    except struct.error as error:
        raise InvariantViolation(f"a change of membership cannot be read: {error}") from error
    _check(version)
    return Change(base, delay, decode_members(payload[_CHANGE.size :]))


def encode_state(delay: int, steps: list[Step]) -> bytes:
    """What a MembershipRecord holds: the delay of all changes, and the last memberships."""
    parts = [_STATE.pack(VERSION, delay, len(steps))]
    for step in steps:
        members = encode_members(step.members)
        parts.append(_STEP.pack(step.instance, step.effective, len(members)) + members)
    return b"".join(parts)


def decode_state(state: bytes) -> tuple[int, list[Step]]:
    """Delay and memberships again; raises like ``decode_members``."""
    steps = []
    try:
        version, delay, count = _STATE.unpack_from(state)
        _check(version)
        at = _STATE.size
        for _ in range(count):
            instance, effective, size = _STEP.unpack_from(state, at)
            at += _STEP.size
            steps.append(Step(instance, effective, decode_members(state[at : at + size])))
            at += size
    except struct.error as error:
        raise InvariantViolation(f"the state of a membership cannot be read: {error}") from error
    if not steps or at != len(state):
        raise InvariantViolation("the state of a membership is cut off, or empty")
    return delay, steps


def _check(version: int) -> None:
    if version != VERSION:
        raise InvariantViolation(f"a membership of format {version}, this program knows {VERSION}: upgrade this node")
