"""Tells the service manager what state this process is in, by the protocol of sd_notify(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from twisted.logger import Logger

_log = Logger(namespace="phxqueue.daemon")


def notify(states: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> bool:
    """Send assignments such as ``READY=1`` or ``STATUS=...`` to ``NOTIFY_SOCKET``; False when nobody asked for them.

    A manager that is gone is logged, never an error: a queue does not stop because nobody watches it.
    """
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    message = "\n".join(f"{name}={value}" for name, value in states.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.connect(address)
            sender.send(message.encode())
    except OSError as error:
        _log.warn("cannot notify {address}: {error}", address=environ["NOTIFY_SOCKET"], error=error)
        return False
    return True
