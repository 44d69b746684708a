"""Mutual TLS 1.3 (SIGNATURES ONLY FOR NOW)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ALPN = b"phxqueue/1"


class TlsError(Exception):
    """A certificate, key or authority that cannot be used; names the file, the problem and the remedy."""


@dataclass(frozen=True, slots=True)
class TlsPaths:
    """The three PEM files of one principal."""

    ca: Path
    certificate: Path
    key: Path


class ServerTls:
    """What a listener needs. `.reload()` reads the files again; on TlsError the old ones stay in use."""

    paths: TlsPaths

    def reload(self) -> None:
        raise NotImplementedError


class ClientTls:
    """What a connecting side needs. `.reload()` as in ServerTls."""

    paths: TlsPaths

    def reload(self) -> None:
        raise NotImplementedError


def server_tls(paths: TlsPaths) -> ServerTls:
    """Raises TlsError."""
    raise NotImplementedError


def client_tls(paths: TlsPaths) -> ClientTls:
    """Raises TlsError."""
    raise NotImplementedError
