"""A file system of limited size for a node's data, that can be filled up beside it."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

MIB = 1 << 20


def unmount_below(directory: Path) -> None:
    """Let go of every file system below a directory, whoever still uses it."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in mounted:
        if Path(place).is_relative_to(directory):
            subprocess.run(["umount", "--lazy", place], check=True)


class Disk:
    """A tmpfs: room for so many bytes, and never a byte on the machine's own disk."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._ballast = path / "ballast"
        path.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "chaos", str(path)], check=True)

    @property
    def free(self) -> int:
        """Bytes."""
        usage = os.statvfs(self.path)
        return usage.f_bavail * usage.f_frsize

    def fill(self, leave: int) -> None:
        """Leave so many bytes free, at most."""
        with self._ballast.open("ab") as ballast:
            while (missing := self.free - leave) > 0:
                try:
                    os.posix_fallocate(ballast.fileno(), os.fstat(ballast.fileno()).st_size, missing)
                except OSError as error:  # the node wrote in the same moment
                    if error.errno != errno.ENOSPC:
                        raise

    def clear(self) -> None:
        """Give back what `fill` took."""
        self._ballast.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Let go of everything on it."""
        subprocess.run(["umount", str(self.path)], check=True)
