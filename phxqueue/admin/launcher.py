"""Becomes the command of ``phxqueue locks acquire``; a program of its own, which imports nothing of ours.

    launcher.py (group | -) PARENT COMMAND [ARGUMENT...]

`group`: in a process group of its own. The command is told (SIGTERM) when its parent, who holds the lock, dies: the
lock is somebody else's soon after.
"""

import os
import signal
import sys


def main() -> None:
    """Exit status 127: there is no such command; 126: it cannot be run."""
    group, parent, *command = sys.argv[1:]
    if group == "group":
        os.setpgid(0, 0)
    if sys.platform == "linux":
        _end_with_parent()
        if os.getppid() != int(parent):  # it has died before we asked
            sys.exit(128 + signal.SIGTERM)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"phxqueue: {command[0]}: {error.strerror}\n")
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


def _end_with_parent() -> None:
    import ctypes

    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, int(signal.SIGTERM), 0, 0, 0)


if __name__ == "__main__":
    main()
