"""A seed decides all that happens to a small group; the oracle watches. Then all is healed, and it must get well.

python -m tests.paxos.storm 0 5000          runs these seeds
python -m tests.paxos.storm 42 --trace      shows one
"""

from __future__ import annotations

import contextlib
import random
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from phxqueue.paxos.config import GroupConfig, Member, MemberKind
from phxqueue.paxos.errors import ChangeRefused, NotMaster, TransferRefused, WindowFull
from phxqueue.paxos.messages import Accept, LearnReply, Message, Promise
from tests.paxos.cluster import Cluster
from tests.paxos.surgery import Surgery

MAX_QUEUE = 60
"""Messages under way on one link; more are dropped."""


@dataclass
class Weather:
    """How likely each thing is, relative to the others."""

    deliver: float
    drop: float
    duplicate: float
    reorder: float
    corrupt: float
    persist: float
    advance: float
    propose: float
    crash: float
    restart: float
    cut: float
    heal: float
    pause: float
    rumour: float  # a node is told that a peer's process is gone, true or not
    usurp: float  # a node asks for promises without having asked for pre-votes: Paxos must stand that
    change: float  # whoever is master tries to change the membership
    transfer: float  # whoever is master hands over
    empty: float  # a node loses its disk, if what is chosen survives that

    @classmethod
    def pick(cls, rng: random.Random) -> Weather:
        def some(high: float) -> float:
            return rng.choice([0.0, rng.random() * high])

        return cls(
            deliver=60,
            drop=some(10),
            duplicate=some(8),
            reorder=some(20),
            corrupt=some(1),
            persist=rng.choice([10.0, 30.0, 60.0]),
            advance=rng.choice([4.0, 12.0, 40.0]),
            propose=rng.choice([10.0, 40.0]),
            crash=some(4.0),
            restart=rng.choice([2.0, 6.0]),
            cut=some(3.0),
            heal=rng.choice([1.0, 3.0]),
            pause=some(3.0),
            rumour=some(1.0),
            usurp=some(6.0),
            change=some(12.0),
            transfer=some(4.0),
            empty=some(2.0),
        )


class Storm:
    """One run of one seed."""

    def __init__(self, seed: int, steps: int = 2500) -> None:
        self.rng = rng = random.Random(seed)
        self.steps = steps
        self.configs = _configs(rng)
        self.cluster = Cluster(self.configs, seed, start=100.0)
        config = self.configs[0]
        spread = config.max_clock_drift / config.lease / 2
        for node in self.cluster.nodes.values():
            node.clock = _clock(rng.uniform(0, 50), 1 + spread * rng.choice([-1, 1, rng.uniform(-1, 1)]))
        self.weather = Weather.pick(rng)
        self.paused: dict[int, float] = {}
        self.number = 0
        self.surgery = Surgery(self.cluster, rng)
        self.actions: list[tuple[Callable[[], None], float]] = [
            (getattr(self, f"_{name}"), weight) for name, weight in vars(self.weather).items() if weight
        ]

    def run(self) -> None:
        """The storm, then the calm after it."""
        self.cluster.start_all()
        if self.rng.random() < 0.7:
            self._quiet(0.7)
        actions, weights = zip(*self.actions, strict=True)
        for action in self.rng.choices(actions, weights, k=self.steps):
            action()
            self.check()
        self.calm()

    def check(self) -> None:
        """At most one node believes in its lease, and it has applied everything that was ever acknowledged."""
        cluster = self.cluster
        holders = [
            node_id
            for node_id, node in cluster.nodes.items()
            if node.group is not None and node.group.lease_valid(cluster.now(node_id))
        ]
        assert len(holders) <= 1, f"two leaseholders: {holders}"
        for holder in holders:
            chosen = cluster.group(holder).chosen
            assert chosen >= cluster.oracle.acknowledged, f"leaseholder {holder} has not applied what was acknowledged"

    def calm(self) -> None:
        """Everything works again: there must be one master, everything gets chosen, everybody gets it."""
        cluster = self.cluster
        self.paused.clear()
        cluster.cut.clear()
        cluster.start_all()
        self._quiet(4.0)
        assert cluster.master is not None, f"no master: {self.describe()}"
        before = cluster.oracle.acknowledged
        for _ in range(3):
            cluster.propose(cluster.master, self._payload())
            self._quiet(0.02)
        self._quiet(3.0)
        assert cluster.oracle.acknowledged >= before + 3, self.describe()
        self._check_calm()
        if self.surgery.readmit_all(lambda: self._quiet(1.5)):
            self._quiet(1.0)
            self._check_calm()
            for node_id in self.surgery.members():
                group = cluster.group(node_id)
                assert group.votes or group._membership.current.kinds[node_id] == MemberKind.LEARNER, self.describe()

    def _check_calm(self) -> None:
        cluster = self.cluster
        master = cluster.master
        assert master is not None, self.describe()
        assert cluster.group(master).lease_valid(cluster.now(master)), self.describe()
        assert len({cluster.nodes[node_id].applied_to for node_id in self.surgery.members()}) == 1, self.describe()
        step = cluster.oracle.steps[-1]
        for node_id in self.surgery.members():
            assert cluster.group(node_id).members == step.members, f"node {node_id} {self.describe()}"
        assert cluster.group(master).settled, self.describe()

    def describe(self) -> str:
        """Where everybody stands."""
        lines = []
        for node_id, node in self.cluster.nodes.items():
            g = node.group
            if g is not None:
                due = g.next_deadline() - self.cluster.now(node_id)
                lines.append(
                    f"{node_id}: {g.role.value} promised {g.promised:x} ballot {g.ballot:x} chosen {g.chosen} "
                    f"in flight {g.in_flight} master {g.master_id} due in {due:.3f} runs on {node.incarnation} "
                    f"votes {g.votes} members {[(m.node_id, m.kind.name, m.incarnation) for m in g.members]} "
                    f"switch at {g._membership.switch_at}"
                )
        return "\n" + "\n".join(lines)

    def _quiet(self, seconds: float) -> None:
        end = self.cluster.time + seconds
        while self.cluster.time < end:
            self.cluster.settle()
            self._pass_time(0.005)
            self.check()
        self.cluster.settle()

    # -- what may happen ----------------------------------------------------------------------------------------------

    def _awake(self, node_id: int) -> bool:
        return self.cluster.nodes[node_id].up and self.paused.get(node_id, 0.0) <= self.cluster.time

    def _link(self) -> tuple[int, int] | None:
        full = [link for link, queue in self.cluster.links.items() if queue and self._awake(link[1])]
        return self.rng.choice(full) if full else None

    def _deliver(self) -> None:
        for _ in range(self.rng.randrange(1, 6)):
            link = self._link()
            if link is None:
                return
            self.cluster.deliver(*link)
            queue = self.cluster.links[link]
            while len(queue) > MAX_QUEUE:
                queue.popleft()

    def _reorder(self) -> None:
        link = self._link()
        if link is not None:
            self.cluster.deliver(*link, index=self.rng.randrange(len(self.cluster.links[link])))

    def _drop(self) -> None:
        link = self._link()
        if link is not None:
            queue = self.cluster.links[link]
            del queue[self.rng.randrange(len(queue))]

    def _duplicate(self) -> None:
        link = self._link()
        if link is not None:
            queue = self.cluster.links[link]
            queue.append(self.rng.choice(list(queue)))

    def _corrupt(self) -> None:
        link = self._link()
        if link is not None:
            self.cluster.step(link[1], _spoiled(self.cluster.links[link].popleft()))

    def _persist(self) -> None:
        waiting = [node_id for node_id, node in self.cluster.nodes.items() if node.writes and self._awake(node_id)]
        if waiting:
            self.cluster.persist(self.rng.choice(waiting))

    def _advance(self) -> None:
        self._pass_time(self.rng.expovariate(1 / 0.015))

    def _pass_time(self, seconds: float) -> None:
        cluster = self.cluster
        cluster.time += seconds
        for node_id, node in cluster.nodes.items():
            if node.group is not None and self._awake(node_id) and node.group.next_deadline() <= cluster.now(node_id):
                cluster.tick(node_id)
                left = node.group.next_deadline() - cluster.now(node_id)
                assert left > 0, f"node {node_id} asks for another tick at once ({left})"

    def _payload(self) -> bytes:
        self.number += 1
        return b"%d" % self.number

    def _propose(self) -> None:
        for node_id in self.cluster.nodes:
            if self._awake(node_id) and self.rng.random() < 0.7:
                with contextlib.suppress(NotMaster, WindowFull):
                    self.cluster.propose(node_id, self._payload())

    def _crash(self) -> None:
        node_id = self.rng.choice(list(self.cluster.nodes))
        if self.cluster.nodes[node_id].up:
            self.cluster.crash(node_id)
            if self.rng.random() < 0.5:
                for other in self.cluster.nodes:
                    if other != node_id and self.cluster.nodes[other].up:
                        self.cluster.unreachable(other, node_id)

    def _restart(self) -> None:
        down = [node_id for node_id, node in self.cluster.nodes.items() if not node.up]
        if down:
            self.cluster.start(self.rng.choice(down))

    def _cut(self) -> None:
        links = list(self.cluster.links)
        if not links:
            return
        one = self.rng.choice(links)
        self.cluster.cut.add(one)
        if self.rng.random() < 0.7:
            self.cluster.cut.add((one[1], one[0]))
        if self.rng.random() < 0.3:
            self.cluster.cut.update(link for link in links if one[0] in link)

    def _heal(self) -> None:
        self.cluster.cut.clear()

    def _pause(self) -> None:
        self.paused[self.rng.choice(list(self.cluster.nodes))] = self.cluster.time + self.rng.expovariate(1 / 0.4)

    def _rumour(self) -> None:
        a, b = self.rng.choice(list(self.cluster.links) or [(0, 0)])
        if a != b and self._awake(a):
            self.cluster.unreachable(a, b)

    def _usurp(self) -> None:
        node_id = self.rng.choice(list(self.cluster.nodes))
        if self._awake(node_id):
            self.cluster.usurp(node_id)

    def _change(self) -> None:
        for node_id in self.cluster.nodes:
            if self._awake(node_id):
                with contextlib.suppress(NotMaster, WindowFull, ChangeRefused):
                    self.surgery.change(node_id)

    def _transfer(self) -> None:
        for node_id in self.cluster.nodes:
            if self._awake(node_id):
                with contextlib.suppress(NotMaster, TransferRefused):
                    self.cluster.transfer(node_id, self.rng.choice(list(self.cluster.nodes)))

    def _empty(self) -> None:
        node_id = self.rng.choice(list(self.cluster.nodes))
        if self.surgery.may_empty(node_id):
            self.cluster.empty(node_id)


def _clock(offset: float, rate: float) -> Callable[[float], float]:
    return lambda time: offset + rate * time


def _configs(rng: random.Random) -> list[GroupConfig]:
    size = rng.choice([1, 2, 3, 3, 3, 3, 4, 5, 5])
    members = [Member(node_id, priority=rng.choice([0, 0, 1])) for node_id in range(size)]
    if size >= 3 and rng.random() < 0.2:
        members[-1] = replace(members[-1], kind=rng.choice([MemberKind.WITNESS, MemberKind.LEARNER]))
    small = rng.random() < 0.6
    sizes = (
        {"window": 4, "window_bytes": 12, "accept_ahead": 8, "accept_ahead_bytes": 24, "max_message_bytes": 6}
        if small
        else {}
    )
    spare = rng.choice([0, 0, 1, 2])
    return [
        GroupConfig(group_id=7, node_id=node_id, incarnation=100 * node_id + 100, members=tuple(members), **sizes)
        for node_id in range(size + spare)
    ]


def _spoiled(message: Message) -> Message:
    """The same message with the last entry altered on its way."""
    if isinstance(message, Accept | Promise | LearnReply) and message.entries:
        instance, entry = message.entries[-1]
        spoiled = replace(entry, payload=entry.payload + b"?")
        return replace(message, entries=(*message.entries[:-1], (instance, spoiled)))
    return message


def main(argv: list[str]) -> int:
    """Run a range of seeds, or show one."""
    if "--trace" in argv:
        storm = Storm(int(argv[0]))
        storm.cluster.on_event = lambda node, event: print(f"{storm.cluster.time:9.3f} {node.config.node_id} {event}")
        storm.run()
        return 0
    failed = 0
    for seed in range(int(argv[0]), int(argv[1])):
        storm = Storm(seed)
        try:
            storm.run()
        except Exception:
            failed += 1
            print(f"seed {seed}:")
            traceback.print_exc(limit=-4)
            if failed >= 5:
                break
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
