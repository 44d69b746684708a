"""What happens to the network between nodes: it is cut, in one direction or both, or holds frames up."""

from __future__ import annotations

from phxqueue.testing.sim.network import NetworkFaults
from phxqueue.testing.sim.scene import Scene


class Cuts:
    """Cuts links and nodes off and mends them again."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._network = scene.cluster.network
        self._world = scene.cluster.world
        self._random = scene.cluster.world.random

    def start(self) -> None:
        """Begin."""
        profile = self._scene.profile
        self._network.faults = NetworkFaults(
            loss=profile.loss, duplicate=profile.duplicate, spike=profile.spike, spike_max=profile.spike_max
        )
        self._scene.repeat(profile.cut_every, self._cut)

    def heal(self) -> None:
        """Mend everything."""
        self._network.faults = NetworkFaults()
        self._network.cut.clear()
        self._network.release(set(self._network.held))

    def isolate(self, victim: int, duration: float) -> None:
        """Let nothing through between a node and the others. Clients still reach it."""
        others = [node_id for node_id in self._scene.cluster.node_ids if node_id != victim]
        self._sever({(victim, other) for other in others} | {(other, victim) for other in others}, duration)

    def interrupt(self, sender: int, duration: float) -> None:
        """Lose everything that a node sends for some milliseconds: what it sends afterwards gets through."""
        self._world.count("interruption")
        others = [node_id for node_id in self._scene.cluster.node_ids if node_id != sender]
        self._sever({(sender, other) for other in others}, duration)

    def separate(self, one: int, other: int, duration: float) -> None:
        """Let nothing through between two nodes."""
        self._sever({(one, other), (other, one)}, duration)

    def cut_one(self, victim: int) -> None:
        """Cut a node, or a minority with it, off the others, or one link; both directions or one; for a while."""
        random = self._random
        others = [node_id for node_id in self._scene.cluster.node_ids if node_id != victim]
        side = [victim]
        if random.random() < 0.4:
            others = [random.choice(others)]
        elif len(others) > 2 and random.random() < 0.5:
            side.append(others.pop(random.randrange(len(others))))
        pairs = {(node, other) for node in side for other in others}
        direction = random.randrange(3)
        if direction == 1:
            pairs = {(other, node) for node, other in pairs}
        elif direction == 2:
            pairs |= {(other, node) for node, other in pairs}
        duration = random.choice((0.1, 0.5, 2.0)) * random.random()
        if random.random() < 0.3:
            self._world.count("hold-up")
            pairs -= self._network.held.keys()
            self._network.held.update((pair, []) for pair in sorted(pairs))
            self._world.call_later(duration, self._network.release, pairs)
        else:
            self._world.count("cut" if direction == 2 else "one-way cut")
            self._sever_links(pairs, duration)

    def _cut(self) -> None:
        victim = self._scene.victim()
        if victim is not None:
            self.cut_one(victim)

    def _sever_links(self, pairs: set[tuple[int, int]], duration: float) -> None:
        """Cut all at once; they come back together, or link by link."""
        links = {frozenset(pair) for pair in pairs}
        if len(links) == 1 or self._random.random() < 0.5:
            self._sever(pairs, duration)
            return
        self._world.count("link by link")
        for one, other in sorted(tuple(sorted(link)) for link in links):
            both = {(one, other), (other, one)}
            self._sever(pairs & both, duration * self._random.uniform(0.3, 2.0))

    def _sever(self, pairs: set[tuple[int, int]], duration: float) -> None:
        self._network.cut |= pairs
        self._world.call_later(duration, self._network.cut.difference_update, pairs)
