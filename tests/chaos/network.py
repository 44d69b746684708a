"""Every node in a network of its own, joined by one router that drops what it is told to, in either direction.

The router is the network namespace of the run itself, where the clients live. Whatever node 0 says to node 1 comes in
through the link of node 0, and there a rule can throw it away: silently, as a broken network does, without a word to
either side, and in this direction alone.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

ROUTER = "10.77.0.254"
_CUTS = "10"  # before the rules that follow
_LOCAL = "100"


def ip(*arguments: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Network:
    """The networks of some nodes, by number."""

    def __init__(self, nodes: int) -> None:
        self.hosts = [f"10.77.0.{node + 1}" for node in range(nodes)]
        self._cuts: list[list[str]] = []
        self._build()

    def enter(self, node: int) -> list[str]:
        """The command that runs another one in the network of a node."""
        return ["nsenter", f"--net=/run/netns/node{node}"]

    def cut(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Throw away what any of the sources says to any of the targets."""
        for source in sources:
            for target in targets:
                if source != target:
                    self._drop("iif", f"link{source}", "to", self.hosts[target])

    def mute(self, node: int) -> None:
        """Throw away what a node says to the clients. Its own connections to other nodes are not touched."""
        self._drop("iif", f"link{node}", "to", ROUTER)

    def heal(self) -> None:
        """Let everything through again."""
        while self._cuts:
            ip("rule", "del", *self._cuts.pop())

    def _drop(self, *what: str) -> None:
        rule = ["pref", _CUTS, *what, "blackhole"]
        ip("rule", "add", *rule)
        self._cuts.append(rule)

    def _build(self) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "chaos", "/run"], check=True)
        Path("/run/netns").mkdir()
        for name, value in (("ip_forward", "1"), ("ip_early_demux", "0"), ("conf/all/rp_filter", "0")):
            Path("/proc/sys/net/ipv4", name).write_text(value)
        ip("link", "set", "lo", "up")
        # What is for this machine is looked up first of all, which no other rule could keep from happening.
        ip("rule", "add", "pref", _LOCAL, "lookup", "local")
        ip("rule", "del", "pref", "0")
        for node, host in enumerate(self.hosts):
            self._join(node, host)

    def _join(self, node: int, host: str) -> None:
        name, link = f"node{node}", f"link{node}"
        ip("netns", "add", name)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("addr", "add", f"{ROUTER}/32", "dev", link)
        ip("link", "set", link, "up")
        ip("route", "add", f"{host}/32", "dev", link)
        inside = ("-n", name)
        ip(*inside, "link", "set", "lo", "up")
        ip(*inside, "addr", "add", f"{host}/32", "dev", "eth0")
        ip(*inside, "link", "set", "eth0", "up")
        ip(*inside, "route", "add", f"{ROUTER}/32", "dev", "eth0")
        ip(*inside, "route", "add", "default", "via", ROUTER)
