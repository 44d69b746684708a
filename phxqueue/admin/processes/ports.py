"""Free TCP ports that stay ours until they are let go."""

from __future__ import annotations

import socket


class PortReservation:
    """Some ports of the loopback address.

    A socket is bound to each and kept, without listening. Linux then gives the port to nobody who asks for just any,
    neither to listen nor to connect from; a server that wants this very port, and allows the reuse of addresses as
    Twisted's do, gets it. So the ports of a cluster stay its own while its nodes are down, too.
    """

    def __init__(self, count: int, host: str = "127.0.0.1") -> None:
        self._sockets = [_bound(host) for _ in range(count)]
        self.ports = [held.getsockname()[1] for held in self._sockets]

    def close(self) -> None:
        """Let go of them."""
        for held in self._sockets:
            held.close()


def _bound(host: str) -> socket.socket:
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((host, 0))
    return held
