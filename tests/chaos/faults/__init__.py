"""The faults. Each is done to a cluster under load, lasts a while, and is undone by whoever called it.

:mod:`.scene` says what a fault is; :mod:`.processes`, :mod:`.networks`, :mod:`.disks`, :mod:`.owners`, :mod:`.members`
have them.
"""

from __future__ import annotations

from tests.chaos.faults import disks, members, networks, owners, processes
from tests.chaos.faults.scene import FAULTS, Fault, NotStopped, Scene

__all__ = ["FAULTS", "Fault", "NotStopped", "Scene", "disks", "members", "networks", "owners", "processes"]
