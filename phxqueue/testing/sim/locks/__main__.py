"""``python -m phxqueue.testing.sim.locks``: replay one seed of the lock service, run a range, or soak for hours."""

from __future__ import annotations

import sys

from phxqueue.testing.sim.__main__ import main
from phxqueue.testing.sim.locks.run import run

if __name__ == "__main__":
    sys.exit(main(run, "python -m phxqueue.testing.sim.locks"))
