"""What operators do to nodes: they install programs, and leave nodes down for long."""

from __future__ import annotations

from collections.abc import Callable

from phxqueue.store.queues import COMMAND_VERSION
from phxqueue.testing.sim.scene import Scene

AWAY = 2.0
"""The longest that a node is left down, in seconds."""
LOOK = 0.05
"""How often it is looked whether the others have trimmed their logs far enough."""


class Operators:
    """Upgrades the nodes one by one, and leaves one behind now and then.

    Args:
        bring_up: starts a node unless it runs.
    """

    def __init__(self, scene: Scene, bring_up: Callable[[int], None]) -> None:
        self._scene = scene
        self._bring_up = bring_up
        self._cluster = scene.cluster
        self._world = scene.cluster.world
        self._away: set[int] = set()

    def start(self) -> None:
        """Begin."""
        self._scene.repeat(self._scene.profile.leave_every, self._leave)
        self._scene.repeat(self._scene.profile.upgrade_every, self._install)

    def heal(self) -> None:
        """Every node gets the current program; those that run an older one are restarted with it."""
        for node_id, version in self._cluster.versions.items():
            if version < COMMAND_VERSION:
                self._restart(node_id, COMMAND_VERSION)

    def _restart(self, node_id: int, version: int) -> None:
        if node_id in self._cluster.processes:
            self._cluster.crash(node_id)
        self._cluster.versions[node_id] = version
        if version == COMMAND_VERSION:
            self._cluster.downgraded.discard(node_id)
        self._world.call_later(self._world.random.uniform(0.01, 0.3), self._bring_up, node_id)

    def _install(self) -> None:
        """One more node gets the current program; when all have it, one may go back for a while."""
        random = self._world.random
        old = [node_id for node_id, version in self._cluster.versions.items() if version < COMMAND_VERSION]
        if old:
            self._world.count("upgrade")
            self._restart(random.choice(old), COMMAND_VERSION)
        elif random.random() < self._scene.profile.downgrade and self._scene.running:
            node_id = random.choice(self._scene.running)
            self._world.count("downgrade")
            self._cluster.downgraded.add(node_id)
            self._restart(node_id, COMMAND_VERSION - 1)

    def _leave(self) -> None:
        running = self._scene.running
        if self._away or len(running) < len(self._cluster.node_ids):
            return
        node_id = self._world.random.choice(running)
        self._away.add(node_id)
        self._cluster.crash(node_id)
        self._look(node_id, self._world.now + AWAY)

    def _look(self, node_id: int, until: float) -> None:
        if self._scene.healed:
            return
        behind = self._is_behind(node_id)
        if not behind and self._world.now < until:
            self._world.call_later(LOOK, self._look, node_id, until)
            return
        if behind:
            self._world.count("left behind")
        self._away.discard(node_id)
        self._bring_up(node_id)

    def _is_behind(self, node_id: int) -> bool:
        """Whether the others' logs begin above what this node holds, in some group."""
        disks = self._cluster.disks
        return any(
            min(disks[other].group(group_id).first for other in disks if other != node_id)
            > max(disks[node_id].group(group_id).log, default=-1) + 1
            for group_id in range(self._cluster.shape.paxos_groups)
        )
