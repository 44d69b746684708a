from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from phxqueue.net.certs import create_authority, issue
from phxqueue.net.identity import Identity, Role
from phxqueue.net.tls import TlsPaths


@dataclass(frozen=True)
class Certificates:
    """One authority; nodes of store 1, a node of another store and a client."""

    nodes: tuple[TlsPaths, ...]
    other_store: TlsPaths
    client: TlsPaths


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory: Path = tmp_path_factory.mktemp("authority")
    create_authority(directory)
    return Certificates(
        nodes=tuple(issue(directory, Identity.store(1, node_id)) for node_id in range(3)),
        other_store=issue(directory, Identity.store(2, 1)),
        client=issue(directory, Identity(Role.CLIENT, "anna")),
    )
