from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from phxqueue.net.certs import create_authority, issue
from phxqueue.net.identity import Identity, Role
from phxqueue.net.tls import TlsPaths
from tests.net.forgery import forge


@dataclass(frozen=True)
class Certificates:
    """Two authorities, and certificates good and bad; made once (keys cost time), never changed by tests."""

    directory: Path
    store: TlsPaths  # store 1 node 0
    store1: TlsPaths  # store 1 node 1
    client: TlsPaths  # client anna
    stranger: TlsPaths  # store 1 node 0 of another authority
    mixed: TlsPaths  # the stranger's certificate, with our authority as the one to trust
    expired: TlsPaths
    early: TlsPaths
    nameless: TlsPaths
    two_names: TlsPaths


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    ours, theirs = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    create_authority(ours)
    create_authority(theirs)
    stranger = issue(theirs, Identity.store(1, 0))
    uri = "phxqueue://store/1/0"
    return Certificates(
        directory=ours,
        store=issue(ours, Identity.store(1, 0)),
        store1=issue(ours, Identity.store(1, 1)),
        client=issue(ours, Identity(Role.CLIENT, "anna")),
        stranger=stranger,
        mixed=TlsPaths(ours / "ca.pem", stranger.certificate, stranger.key),
        expired=forge(ours, "expired", [uri], begin=timedelta(days=-9), end=timedelta(days=-1)),
        early=forge(ours, "early", [uri], begin=timedelta(days=1), end=timedelta(days=9)),
        nameless=forge(ours, "nameless", []),
        two_names=forge(ours, "two", [uri, "phxqueue://client/anna"]),
    )
