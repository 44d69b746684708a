"""A private certificate authority and leaf certificates (SIGNATURES ONLY FOR NOW)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phxqueue.net.identity import Identity
from phxqueue.net.tls import TlsPaths


class CertificateFilesError(Exception):
    """Files that exist already, cannot be written, or do not fit together; names file and remedy."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: `<directory>/ca.pem` and `<directory>/ca.key`."""

    certificate: Path
    key: Path


def create_authority(directory: Path, *, name: str = "phxqueue", days: int = 3650) -> Authority:
    """Make a CA; refuses to overwrite."""
    raise NotImplementedError


def issue(
    directory: Path,
    identity: Identity,
    hosts: Sequence[str],
    *,
    days: int = 825,
    file_stem: str | None = None,
    output: Path | None = None,
) -> TlsPaths:
    """Issue `<stem>.pem`/`<stem>.key` signed by the CA in `directory` (stem: "store-1-0", "client-x").

    `hosts`: DNS names and IP addresses for the SAN. Refuses to overwrite.
    """
    raise NotImplementedError


def renew(directory: Path, certificate: Path, *, days: int = 825) -> TlsPaths:
    """Issue the same identity and hosts again with a new key and dates, replacing the files atomically."""
    raise NotImplementedError
