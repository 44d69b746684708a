"""What happens to disks: they are slow, fail, fill up, and alter what they hold."""

from __future__ import annotations

from phxqueue.paxos.entry import entry_checksum
from phxqueue.testing.sim.disk import DiskFaults
from phxqueue.testing.sim.scene import Scene


class DiskTroubles:
    """Spoils the disks of a cluster."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._cluster = scene.cluster
        self._world = scene.cluster.world
        self._random = scene.cluster.world.random
        self._bad_disk = self._random.choice(scene.cluster.node_ids)

    def start(self) -> None:
        """Begin."""
        profile = self._scene.profile
        slow = self._random.choice(self._cluster.node_ids)
        for node_id, disk in self._cluster.disks.items():
            disk.faults = DiskFaults(
                stall=profile.stall,
                busy_read=profile.busy_read,
                write_error=profile.write_error,
                slowness=profile.slow_node if node_id == slow else 1.0,
            )
        self._scene.repeat(profile.flip_every, self._flip)
        self._scene.repeat(profile.full_every, self._fill)

    def heal(self) -> None:
        """Nothing goes wrong any more; what is damaged stays so."""
        for disk in self._cluster.disks.values():
            disk.faults = DiskFaults()
            disk.after_commit = None
            disk.full = False

    def after_crash(self, node_id: int) -> None:
        """Alter the entry that was written last: what the crash of a bad disk leaves behind.

        The node may not know yet that it is chosen. It rightly refuses to vote then, until it has been taught: that
        happens to one disk only, because two nodes in that state could wait for each other for ever.
        """
        if not self._scene.profile.flip_every or node_id != self._bad_disk:
            return
        for group_id, group in self._cluster.disks[node_id].groups.items():
            last = max(group.log, default=-1)
            if last >= 0 and group.log[last].payload and self._intact(group_id, last) == self._held(group_id, last):
                self._world.count("torn record")
                self._cluster.disks[node_id].flip(group_id, last, self._random.randrange(1 << 30))

    def _fill(self) -> None:
        disk = self._cluster.disks[self._random.choice(self._cluster.node_ids)]
        self._world.count("full disk")
        disk.full = True
        self._world.call_later(self._random.uniform(0.1, 1.0), setattr, disk, "full", False)

    def _flip(self) -> None:
        """Alter a byte of an entry that every node holds and no disk has damaged yet, as independent disks would."""
        node_id = self._random.choice(self._cluster.node_ids)
        disk = self._cluster.disks[node_id]
        for group_id, group in disk.groups.items():
            written = [instance for instance, entry in group.log.items() if instance <= group.chosen and entry.payload]
            if not written:
                continue
            instance = self._random.choice(written)
            if self._intact(group_id, instance) == self._cluster.shape.nodes:
                self._world.count("flip")
                disk.flip(group_id, instance, self._random.randrange(1 << 30))

    def _held(self, group_id: int, instance: int) -> int:
        return sum(instance in disk.group(group_id).log for disk in self._cluster.disks.values())

    def _intact(self, group_id: int, instance: int) -> int:
        logs = [disk.group(group_id).log for disk in self._cluster.disks.values()]
        entries = [log[instance] for log in logs if instance in log]
        return sum(entry_checksum(entry.kind, entry.payload) == entry.checksum for entry in entries)
