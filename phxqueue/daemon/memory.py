"""How much memory a process has."""

from __future__ import annotations

import resource
from pathlib import Path


def resident_bytes(pid: int | None = None) -> int:
    """Bytes of a process (of this one, unless another is named) that are in memory now; 0: it is gone."""
    try:
        pages = int(Path(f"/proc/{'self' if pid is None else pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * resource.getpagesize()
