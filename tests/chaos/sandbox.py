"""Namespaces of the kernel around a whole run: own networks, own mounts, own processes, nothing left behind.

The run starts itself again under unshare(1). Inside, it is root over its own network and mounts, whoever it is outside,
and process 1: when it ends, whatever it started ends with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

INSIDE = "PHXQUEUE_CHAOS_SANDBOX"
_NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
#: As root, and as anybody else where the kernel lets users have namespaces of their own.
_WAYS = (("unshare", *_NAMESPACES), ("unshare", "--user", "--map-root-user", *_NAMESPACES))
#: What a run does in there: address rules, and a file system of limited size.
_PROBE = "ip link set lo up && ip rule add pref 10 to 192.0.2.1 blackhole && mount -t tmpfs -o size=1m chaos /run"


def inside() -> bool:
    """Whether this process runs in the namespaces already."""
    return os.environ.get(INSIDE) == "1"


def way_in() -> tuple[str, ...] | None:
    """Return the command that opens the namespaces here; None where that is not permitted."""
    if not all(shutil.which(tool) for tool in ("unshare", "nsenter", "ip", "mount")):
        return None
    for way in _WAYS:
        if subprocess.run([*way, "sh", "-c", _PROBE], capture_output=True, check=False).returncode == 0:
            return way
    return None


def enter(way: Sequence[str]) -> NoReturn:
    """Become this very command inside: whoever ends this process ends everything there."""
    again = [*way, sys.executable, *_arguments()]
    os.execvpe(again[0], again, {**os.environ, INSIDE: "1"})


def _arguments() -> list[str]:
    """How this process was started: ``python -m tests.chaos ...``."""
    spec = sys.modules["__main__"].__spec__
    module = spec.name.removesuffix(".__main__") if spec is not None else "tests.chaos"
    return ["-m", module, *sys.argv[1:]]


def end_others() -> None:
    """SIGKILL for whatever else runs in here; nothing outside."""
    if inside() and os.getpid() == 1:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)


def other_processes() -> list[str]:
    """The command lines of whatever else runs in our process namespace; meaningless outside."""
    found = []
    for pid in (entry for entry in os.listdir("/proc") if entry.isdigit() and int(entry) != os.getpid()):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as command:
                found.append(command.read().replace(b"\0", b" ").decode(errors="replace").strip() or f"[{pid}]")
        except OSError:
            continue  # gone meanwhile
    return found
