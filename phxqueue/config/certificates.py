"""Where certificates lie: pure naming, shared by node files that do not say and by `phxqueue certs init`.

A leaf's name follows from its identity, so that a node finds its own without being told:

=============================== ============================= =======================
identity                        certificate                   private key
=============================== ============================= =======================
phxqueue://store/1/0            store-1-0.pem                 store-1-0.key
phxqueue://scheduler/<name>     scheduler-<name>.pem          scheduler-<name>.key
phxqueue://consumer/<name>      consumer-<name>.pem           consumer-<name>.key
phxqueue://client/default       client.pem                    client.key
phxqueue://client/<name>        client-<name>.pem             client-<name>.key
phxqueue://admin/default        admin.pem                     admin.key
phxqueue://admin/<name>         admin-<name>.pem              admin-<name>.key
the authority itself            ca.pem                        ca.key
=============================== ============================= =======================
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

AUTHORITY_CERTIFICATE = "ca.pem"
AUTHORITY_KEY = "ca.key"
#: Name of the client certificate that producers use when told nothing else.
DEFAULT_CLIENT = "default"
#: Name of the operator's certificate that commands use when told nothing else.
DEFAULT_ADMIN = "default"
_DEFAULTS = {("client", DEFAULT_CLIENT), ("admin", DEFAULT_ADMIN)}


@dataclass(frozen=True, slots=True)
class TlsPaths:
    """The three PEM files mutual TLS needs: the authority to trust, the own certificate and its key."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Leaf:
    """One certificate that a cluster needs: whose it is and for which hosts it is valid."""

    role: str
    name: str  # as in the identity URI: "1/0" for node 0 of store 1
    hosts: tuple[str, ...]


def certificate_paths(directory: Path, role: str, name: str) -> TlsPaths:
    """Where `role`/`name` has its certificate below `directory`; `name` is the one of its identity ("1/0")."""
    stem = role if (role, name) in _DEFAULTS else f"{role}-{name}".replace("/", "-").replace(":", "-")
    return TlsPaths(
        ca=directory / AUTHORITY_CERTIFICATE, certificate=directory / f"{stem}.pem", key=directory / f"{stem}.key"
    )
