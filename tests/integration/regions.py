"""A cluster over three regions: real processes, joined by lines with a latency (delayed_lines.py).

Whoever sits in a region sees the nodes of its own at their true addresses, and those of the others at the near end of
the line to them: each region has files of its own in which the same nodes have other addresses.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phxqueue.admin.processes.child import Child
from phxqueue.admin.processes.files import ClusterSpec
from phxqueue.config import Cluster, load_cluster
from tests.integration.cluster import TestedCluster
from tests.integration.delayed_lines import Line

REGIONS = ("east", "west", "south")
#: One way, in seconds.
LATENCIES = {
    frozenset({"east", "west"}): 0.025,
    frozenset({"east", "south"}): 0.035,
    frozenset({"west", "south"}): 0.05,
}
#: Round trips of up to 100 ms.
TIMES = {
    "heartbeat_interval_ms": 200,
    "master_lease_ms": 1500,
    "max_clock_drift_ms": 50,
    "election_stagger_ms": 150,
}
LEASE_S = TIMES["master_lease_ms"] / 1000
PREFERRED = "east"
NODE: dict[str, Any] = {"replica": {"return_mastership_after_s": 0.5, "transfer_interval_s": 0.1}}
SETS: dict[str, Any] = {"paxos_groups": 2, **TIMES}
PRIORITIES = {"west": 1}
FILES = {"storeconfig.conf": "stores", "lockconfig.conf": "locks"}
#: Of clients: a connection takes three round trips to be made, and a region that is cut off says nothing.
NET = {"connect_timeout_s": 3, "try_timeout_s": 1, "silent_try_timeout_s": 0.3, "handover_s": 0.2, "backoff_max_s": 0.2}


class RegionalCluster(TestedCluster):
    """A store and a lock group with a node in each region.

    Attributes:
        lines: from a region to another, to every node there.
        views: the configuration as a region sees it.
    """

    def __init__(self, reactor: Any, directory: Path) -> None:
        spec = ClusterSpec(
            nodes=3,
            locks=3,
            queues=4,
            store=SETS,
            lock=SETS,
            store_node=NODE,
            lock_node=NODE,
            topic={"producer_no_master_patience_s": 30, "store_paxos_propose_timeout_ms": 6000},
        )
        super().__init__(reactor, directory, spec)
        self.lines: dict[tuple[str, str], list[Line]] = {}
        self.views: dict[str, Cluster] = {}
        for name, entries in FILES.items():
            path = directory / "etc" / name
            content = json.loads(path.read_text())
            content[entries][0]["preferred_region"] = PREFERRED
            for number, node in enumerate(content[entries][0]["addrs"]):
                node["region"] = REGIONS[number]
                node["election_priority"] = PRIORITIES.get(REGIONS[number], 0)
            path.write_text(json.dumps(content))
        for number, region in enumerate(REGIONS):
            self._write_view(region)
            for role, children in (("store", self.stores), ("lock", self.locks)):
                children[number] = self.child(f"{role}.{region}", role, self._view(region) / f"{role}.{number}.conf")
        # As an operator sees it who is everywhere at once.
        self.cluster = load_cluster(self.config)

    def _view(self, region: str) -> Path:
        return self.directory / f"etc.{region}"

    def _write_view(self, region: str) -> None:
        etc, view = self.directory / "etc", self._view(region)
        view.mkdir()
        for path in etc.glob("*.conf"):
            content = json.loads(path.read_text())
            if path.name in FILES:
                for node in content[FILES[path.name]][0]["addrs"]:
                    if node["region"] != region:
                        node["port"] = self._line(region, node["region"], node["port"]).port
                        node["paxos_port"] = self._line(region, node["region"], node["paxos_port"]).port
            if path.name == "globalconfig.conf":
                content["tls"] = {"directory": str(etc / "certs")}
                content["net"] = NET
            if "data_dir" in content:
                content["data_dir"] = str(self.directory / content["data_dir"])
            (view / path.name).write_text(json.dumps(content))
        self.views[region] = load_cluster(view / "globalconfig.conf")

    def _line(self, here: str, there: str, port: int) -> Line:
        line = Line(self.reactor, LATENCIES[frozenset({here, there})], port)
        self.lines.setdefault((here, there), []).append(line)
        return line

    def of(self, region: str) -> list[Child]:
        """The processes of a region."""
        number = REGIONS.index(region)
        return [self.stores[number], self.locks[number]]

    def cut_off(self, region: str) -> None:
        """Nothing goes in or out any more."""
        for ends, lines in self.lines.items():
            if region in ends:
                for line in lines:
                    line.cut()

    def heal(self) -> None:
        """All lines carry again."""
        for lines in self.lines.values():
            for line in lines:
                line.heal()

    async def close(self) -> None:
        await super().close()
        for lines in self.lines.values():
            for line in lines:
                await line.close()
