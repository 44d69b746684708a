"""One core under a test's hands: every message and every completed write is given by the test itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from phxqueue.paxos.ballot import make_ballot
from phxqueue.paxos.config import GroupConfig, Member, MemberKind, Restored
from phxqueue.paxos.effects import Effects
from phxqueue.paxos.entry import Entry, EntryKind, make_entry
from phxqueue.paxos.group import Group
from phxqueue.paxos.messages import (
    Accept,
    Accepted,
    Heartbeat,
    HeartbeatReply,
    Message,
    Prepare,
    PreVote,
    PreVoteReply,
    Promise,
)
from phxqueue.paxos.roles import Role

M = TypeVar("M", bound=Message)
T = TypeVar("T")


def members(size: int, **kinds: MemberKind) -> tuple[Member, ...]:
    """That many voters; ``n2=MemberKind.WITNESS`` makes node 2 another kind."""
    return tuple(Member(node, kinds.get(f"n{node}", MemberKind.VOTER)) for node in range(size))


def make_config(node_id: int = 0, size: int = 3, **settings: Any) -> GroupConfig:
    settings.setdefault("members", members(size))
    return GroupConfig(group_id=settings.pop("group_id", 0), node_id=node_id, **settings)


def value(ballot: int, text: str) -> Entry:
    """An entry that proposes ``text`` at ``ballot``."""
    return make_entry(ballot, EntryKind.VALUE, text.encode())


def of_type(messages: Sequence[Any], kind: type[T]) -> list[T]:
    """Those of one type, in order."""
    return [message for message in messages if isinstance(message, kind)]


class Driver:
    """A Group, the time, and the writes that the test has not completed yet."""

    def __init__(
        self, config: GroupConfig | None = None, restored: Restored | None = None, start: float = 10.0, seed: int = 0
    ) -> None:
        self.config = config or make_config()
        self.now = start
        self.group = Group(self.config, restored or Restored(), start, seed)
        self.me = self.config.node_id
        self.pending: list[Effects] = []
        self.last = Effects()
        self.applied: list[tuple[int, Entry]] = []

    def take(self, out: Effects) -> Effects:
        if out.token is not None:
            self.pending.append(out)
        self.applied += out.chosen
        self.last = out
        return out

    def step(self, message: Message) -> Effects:
        return self.take(self.group.step(message, self.now))

    def tick(self, at: float | None = None) -> Effects:
        """Let time come to ``at`` (by default: to the next deadline) and tick."""
        self.now = max(self.now, self.group.next_deadline() if at is None else at)
        return self.take(self.group.tick(self.now))

    def persist(self) -> Effects:
        """Everything written so far becomes durable. Returns the Effects of being told so."""
        assert self.pending, "nothing is being written"
        token = self.pending[-1].token
        assert token is not None
        self.pending.clear()
        return self.take(self.group.persisted(token, self.now))

    def propose(self, text: str) -> int:
        instance, out = self.group.propose(text.encode(), self.now)
        self.take(out)
        return instance

    # -- what the others say ------------------------------------------------------------------------------------------

    def prepare(self, sender: int, ballot: int, first: int = 0) -> Effects:
        return self.step(Prepare(sender, self.me, ballot, first))

    def accept(self, sender: int, ballot: int, *pairs: tuple[int, str], chosen: int = -1) -> Effects:
        entries = tuple((instance, value(ballot, text)) for instance, text in pairs)
        return self.step(Accept(sender, self.me, ballot, chosen, entries))

    def accepted(self, sender: int, ballot: int, first: int, last: int | None = None, chosen: int = -1) -> Effects:
        return self.step(Accepted(sender, self.me, ballot, first, first if last is None else last, chosen))

    def heartbeat(self, sender: int, ballot: int, chosen: int = -1) -> Effects:
        return self.step(Heartbeat(sender, self.me, ballot, chosen, 0.0, 1))

    def heartbeat_reply(self, sender: int, sent_at: float, chosen: int = -1) -> Effects:
        return self.step(HeartbeatReply(sender, self.me, self.group.ballot, chosen, sent_at, 1))

    def pre_vote(self, sender: int, ballot: int, chosen: int = -1) -> PreVoteReply:
        [reply] = of_type(self.step(PreVote(sender, self.me, ballot, chosen)).send, PreVoteReply)
        return reply

    def grant(self, sender: int, ballot: int, chosen: int = -1) -> Effects:
        return self.step(PreVoteReply(sender, self.me, ballot, True, 0, chosen, 0.0))

    def promise(
        self, sender: int, ballot: int, *entries: tuple[int, Entry], first: int = 0, chosen: int = -1
    ) -> Effects:
        last = max((instance for instance, _ in entries), default=first - 1)
        return self.step(Promise(sender, self.me, ballot, first, last, True, chosen, entries))

    # -- whole stretches ----------------------------------------------------------------------------------------------

    def stands(self) -> bool:
        """Whether the group stands for master when its next deadline comes."""
        return bool(of_type(self.tick().send, PreVote) or self.group.role is not Role.FOLLOWER)

    def stand(self) -> int:
        """Come to the point where the promises of others are asked for. Returns the ballot."""
        self.tick()
        asked = of_type(self.last.send, PreVote)
        if asked:
            for node in range(1, self.group._membership.quorum):
                self.grant([message.receiver for message in asked][node - 1], asked[0].ballot)
        self.last = self.pending[-1]
        ballot = of_type(self.last.send_after, Prepare)[0].ballot
        self.persist()
        return ballot

    def become_master(self, *entries: tuple[int, Entry], chosen: int = -1) -> int:
        """Become master; the first promise that comes reports ``entries``. Returns the ballot."""
        ballot = self.stand()
        first = self.group.chosen + 1
        others = [node for node in sorted(self.group._membership.voters) if node != self.me]
        for node in others[: self.group._membership.quorum - 1]:
            self.promise(node, ballot, *entries, first=first, chosen=chosen)
        assert self.group.is_master
        return ballot


def ballot(round_number: int, node: int) -> int:
    return make_ballot(round_number, node)
