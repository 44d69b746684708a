"""How much processor time a process has used."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
#: Fields of /proc/PID/stat behind the name, which may contain anything: user and system time.
_USER, _SYSTEM = 11, 12


def processor_time(pid: int) -> float | None:
    """Seconds of user and system time; None: there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS
