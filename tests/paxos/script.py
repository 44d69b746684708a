"""A small language for telling what happens to a group, and the complete conversation that follows from it.

A transcript is a text file of blocks: a command, a line ``----``, and everything that happened. Lines that start with
``#`` are remarks. Commands:

    cluster 3 [window=4 ...]     that many nodes, started; settings as in GroupConfig; ``witness=2`` makes node 2 one,
                                 ``spare=3`` starts node 3 too, with an empty disk, though it is no member
    campaign 0                   time passes until node 0 stands (the others' clocks move, but they do nothing)
    propose 0 a b                node 0 proposes these values
    deliver 0->1 [newest]        one message arrives, the oldest unless told otherwise
    duplicate 0->1               the oldest message under way will arrive twice
    spoil 0->1                   the oldest message arrives with its last entry altered
    drop 0->1                    everything under way from 0 to 1 is lost
    cut 0-1, cut 0->1, heal      from now on messages are lost, in both or in one direction; no more
    persist 0                    what node 0 is writing becomes durable
    stabilize [quietly]          messages arrive and disks write until nothing is under way; no time
                                 passes. Quietly: only events and applied entries are told
    wait 300ms [quietly]         time passes and all stabilizes
    tick 0                       node 0 looks at its clock
    pause 0, resume 0            its process stands still, and then goes on
    crash 0, restart 0           without what was not durable
    rot 0 3                      the entry at instance 3 is altered on the disk of node 0, which is down
    empty 0                      the disk of node 0 is lost; it restarts with another
    member 0 3=learner           node 0 makes node 3 a learner (voter, witness), on the disk that it has now
    member 0 3=none              node 0 removes node 3
    transfer 0 1                 node 0 hands its mastership over to node 1
    unreachable 1 0              node 1 sees that the process of node 0 is gone
    status                       where everybody stands
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

from phxqueue.paxos.ballot import node_of, round_of
from phxqueue.paxos.config import GroupConfig, Member, MemberKind
from phxqueue.paxos.effects import AcceptRecord, Effects, MembershipRecord, PromiseRecord, Record
from phxqueue.paxos.entry import Entry, EntryKind
from phxqueue.paxos.errors import ChangeRefused, NotMaster, TransferRefused, WindowFull
from phxqueue.paxos.members_codec import decode_change, decode_state
from phxqueue.paxos.messages import Accepted, Message
from tests.paxos.cluster import Cluster, Node, Write

KINDS: dict[str, MemberKind | None] = {"none": None, **{kind.name.lower(): kind for kind in MemberKind}}
BALLOTS = {"ballot", "promised", "released"}


def ballot_text(ballot: int) -> str:
    return f"{round_of(ballot)}.{node_of(ballot)}" if ballot else "none"


def members_text(members: tuple[Member, ...]) -> str:
    """All members, each with the first letter of its kind, and the disk that is recorded."""
    words = []
    for member in members:
        disk = f"/{member.incarnation}" if member.incarnation else ""
        words.append(f"{member.node_id}{member.kind.name[0].lower()}{disk}")
    return "{" + " ".join(words) + "}"


def entry_text(instance: int, entry: Entry) -> str:
    if entry.kind == EntryKind.MEMBERSHIP:
        value = members_text(decode_change(entry.payload).members)
    else:
        value = "noop" if entry.kind == EntryKind.NOOP else entry.payload.decode()
    return f"{instance}={value}@{ballot_text(entry.ballot)}"


def entries_text(entries: tuple[tuple[int, Entry], ...]) -> str:
    return "[" + " ".join(entry_text(*pair) for pair in entries) + "]"


def message_text(message: Message) -> str:
    """A message without its sender and receiver."""
    if isinstance(message, Accepted):
        what = f"{message.first}..{message.last}" if message.last >= message.first else "nothing"
        return f"Accepted {what} ballot {ballot_text(message.ballot)} chosen {message.chosen}"
    words = [type(message).__name__]
    for part in fields(message)[2:]:
        value: Any = getattr(message, part.name)
        if part.name == "entries":
            words.append(entries_text(value))
        elif part.name in BALLOTS:
            if value or part.name != "released":
                words.append(f"{part.name} {ballot_text(value)}")
        elif part.name in ("time", "wait"):
            words.append(f"{part.name} {value:.3f}")
        elif part.name == "version" or (part.name in ("incomplete", "reluctant", "accepted") and not value):
            pass
        elif isinstance(value, bool):
            words.append(part.name if value else f"not {part.name}")
        else:
            words.append(f"{part.name} {value}")
    return " ".join(words)


def record_text(record: Record) -> str:
    if isinstance(record, PromiseRecord):
        return f"promise {ballot_text(record.ballot)}"
    if isinstance(record, AcceptRecord):
        return entry_text(record.instance, record.entry)
    if isinstance(record, MembershipRecord):
        _, steps = decode_state(record.state)
        return f"membership {members_text(steps[-1].members)} from {steps[-1].effective}"
    return f"chosen up to {record.instance}"


def event_text(event: Any) -> str:
    words = [type(event).__name__]
    for part in fields(event):
        value = getattr(event, part.name)
        if part.name in BALLOTS:
            value = ballot_text(value)
        elif isinstance(value, Entry):
            value = value.payload.decode()
        elif part.name == "members":
            value = members_text(value)
        elif part.name == "reason":
            value = re.sub(r"ballot (\d+)", lambda found: f"ballot {ballot_text(int(found[1]))}", value)
        words.append(f"{part.name}={value}")
    return " ".join(words)


class Told(Cluster):
    """A cluster that writes down everything."""

    def __init__(self, configs: list[GroupConfig]) -> None:
        super().__init__(configs)
        self.lines: list[str] = []
        self.quiet = False
        self.on_effects = self._tell

    def say(self, line: str, detail: bool = False) -> None:
        if not (detail and self.quiet):
            self.lines.append(line)

    def step(self, node_id: int, message: Message) -> None:
        self.say(f"{node_id} <- {message.sender}: {message_text(message)}", detail=True)
        super().step(node_id, message)

    def persist(self, node_id: int) -> bool:
        writes = self.nodes[node_id].writes
        if writes:
            self.say(f"{node_id} has written {self._written(writes[0])}", detail=True)
            for message in writes[0].send_after:
                self.say(f"    sends {message.receiver}: {message_text(message)}", detail=True)
        return super().persist(node_id)

    def tick(self, node_id: int) -> None:
        self.say(f"{node_id} at {self.time:.3f}", detail=True)
        super().tick(node_id)

    def _written(self, write: Write) -> str:
        return ", ".join(record_text(record) for record in write.records)

    def _tell(self, node: Node, out: Effects) -> None:
        if out.persist:
            later = "" if out.token else " (no hurry)"
            self.say("    writes " + ", ".join(record_text(record) for record in out.persist) + later, detail=True)
        for message in out.send:
            self.say(f"    sends {message.receiver}: {message_text(message)}", detail=True)
        mine = f"{node.config.node_id}" if self.quiet else "   "
        for instance, entry in out.chosen:
            self.say(f"{mine} applies {entry_text(instance, entry)}")
        for request in out.serve:
            self.say(f"    reads {request.first}.. for {request.to}", detail=True)
        for event in out.events:
            self.say(f"{mine} {event_text(event)}")


class Script:
    """Runs one transcript."""

    def __init__(self) -> None:
        self.told: Told | None = None

    @property
    def cluster(self) -> Told:
        assert self.told is not None, "the first command must be cluster"
        return self.told

    def run(self, command: str) -> str:
        """Carry out one command; what happened."""
        name, *words = command.split()
        getattr(self, f"_{name}")(*words)
        lines, self.cluster.lines = self.cluster.lines, []
        return "\n".join(lines)

    def _cluster(self, size: str, *words: str) -> None:
        settings: dict[str, Any] = {}
        kinds: dict[int, MemberKind] = {}
        nodes = list(range(int(size)))
        for word in words:
            key, value = word.split("=")
            if key == "spare":
                nodes.append(int(value))
            elif key in ("witness", "learner"):
                kinds[int(value)] = MemberKind[key.upper()]
            else:
                settings[key] = float(value) if "." in value else int(value)
        members = tuple(Member(node_id, kinds.get(node_id, MemberKind.VOTER)) for node_id in range(int(size)))
        self.told = Told(
            [
                GroupConfig(group_id=0, node_id=node, incarnation=10 * node + 10, members=members, **settings)
                for node in nodes
            ],
        )
        for node in nodes[int(size) :]:
            self.told.nodes[node].disk.may_vote = False
        self.told.start_all()

    def _campaign(self, node: str) -> None:
        group = self.cluster.group(int(node))
        self.cluster.time = max(self.cluster.time, group.next_deadline())
        self.cluster.tick(int(node))

    def _propose(self, node: str, *values: str) -> None:
        for value in values:
            try:
                instance = self.cluster.propose(int(node), value.encode())
                self.cluster.say(f"{node} proposes {value} at {instance}")
            except (NotMaster, WindowFull) as refused:
                self.cluster.say(f"{node} refuses {value}: {refused}")

    def _link(self, link: str) -> tuple[int, int]:
        sender, receiver = link.split("->")
        return int(sender), int(receiver)

    def _deliver(self, link: str, which: str = "oldest") -> None:
        assert self.cluster.deliver(*self._link(link), index=-1 if which == "newest" else 0), (
            f"nothing under way {link}"
        )

    def _duplicate(self, link: str) -> None:
        queue = self.cluster.links[self._link(link)]
        queue.append(queue[0])

    def _spoil(self, link: str) -> None:
        sender, receiver = self._link(link)
        message: Any = self.cluster.links[sender, receiver].popleft()
        instance, entry = message.entries[-1]
        spoiled = replace(entry, payload=entry.payload + b"?")
        self.cluster.step(receiver, replace(message, entries=(*message.entries[:-1], (instance, spoiled))))

    def _drop(self, link: str) -> None:
        queue = self.cluster.links[self._link(link)]
        assert queue, f"nothing under way {link}"
        for message in queue:
            self.cluster.say(f"lost, {link}: {message_text(message)}")
        queue.clear()

    def _cut(self, link: str) -> None:
        if "->" in link:
            self.cluster.cut.add(self._link(link))
        else:
            a, b = map(int, link.split("-"))
            self.cluster.cut.update({(a, b), (b, a)})

    def _heal(self) -> None:
        self.cluster.cut.clear()

    def _persist(self, node: str) -> None:
        assert self.cluster.persist(int(node)), f"node {node} writes nothing"

    def _stabilize(self, how: str = "") -> None:
        self.cluster.quiet = how == "quietly"
        self.cluster.settle()
        self.cluster.quiet = False

    def _wait(self, duration: str, how: str = "") -> None:
        self.cluster.quiet = how == "quietly"
        self.cluster.run(float(duration.removesuffix("ms")) / 1000)
        self.cluster.quiet = False

    def _pause(self, node: str) -> None:
        self.cluster.paused.add(int(node))

    def _resume(self, node: str) -> None:
        self.cluster.paused.remove(int(node))

    def _tick(self, node: str) -> None:
        self.cluster.tick(int(node))

    def _crash(self, node: str) -> None:
        for write in self.cluster.nodes[int(node)].writes:
            self.cluster.say(f"{node} had not written {self.cluster._written(write)}")
        self.cluster.crash(int(node))

    def _restart(self, node: str) -> None:
        self.cluster.start(int(node))
        disk = self.cluster.nodes[int(node)].disk
        held = " ".join(entry_text(i, entry) for i, entry in sorted(disk.log.items()) if i > disk.chosen)
        self.cluster.say(
            f"{node} remembers promise {ballot_text(disk.promised)}, chosen up to {disk.chosen}, accepted [{held}]"
        )

    def _rot(self, node: str, instance: str) -> None:
        log = self.cluster.nodes[int(node)].disk.log
        log[int(instance)] = replace(log[int(instance)], payload=b"rotten")

    def _empty(self, node: str) -> None:
        self.cluster.empty(int(node))
        self.cluster.start(int(node))
        self.cluster.say(f"{node} remembers nothing, its disk is {self.cluster.nodes[int(node)].incarnation} now")

    def _member(self, node: str, what: str) -> None:
        member, kind = what.split("=")
        try:
            instance = self.cluster.change_one(int(node), int(member), KINDS[kind])
            self.cluster.say(f"{node} proposes it at {instance}")
        except (NotMaster, WindowFull, ChangeRefused) as refused:
            self.cluster.say(f"{node} refuses: {refused}")

    def _transfer(self, node: str, to: str) -> None:
        try:
            self.cluster.transfer(int(node), int(to))
        except (NotMaster, TransferRefused) as refused:
            self.cluster.say(f"{node} refuses: {refused}")

    def _unreachable(self, node: str, peer: str) -> None:
        self.cluster.unreachable(int(node), int(peer))

    def _status(self) -> None:
        for node_id, node in self.cluster.nodes.items():
            group = node.group
            if group is None:
                self.cluster.say(f"{node_id}: down")
                continue
            lease = " with lease" if group.lease_valid(self.cluster.time) else ""
            values = " ".join(self._value(node, instance) for instance in range(len(node.applied)))
            self.cluster.say(
                f"{node_id}: {group.role.value}{lease}, promised {ballot_text(group.promised)}, "
                f"master {group.master_id}, chosen {group.chosen}, applied [{values}]"
            )

    def _value(self, node: Node, instance: int) -> str:
        if self.cluster.oracle.chosen[instance].kind == EntryKind.MEMBERSHIP:
            return members_text(decode_change(node.applied[instance]).members)
        return node.applied[instance].decode() or "noop"


def rerun(text: str) -> str:
    """The same transcript with what happens now."""
    script = Script()
    result: list[str] = []
    told = False
    for line in text.splitlines():
        if line == "----":
            told = True
        elif told and line:
            continue
        elif told:
            told = False
            result.append("")
        elif not line or line.startswith("#"):
            result.append(line)
        else:
            result += [line, "----"]
            happened = script.run(line)
            result += [happened] if happened else []
    return "\n".join(result).rstrip() + "\n"
