"""Which certificates a cluster needs, and making those that are missing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509

from phxqueue.admin.errors import AdminError
from phxqueue.config import Cluster, Leaf, TlsPaths, certificate_paths
from phxqueue.config.certificates import AUTHORITY_CERTIFICATE, AUTHORITY_KEY, DEFAULT_ADMIN, DEFAULT_CLIENT
from phxqueue.net.certs import DEFAULT_AUTHORITY_DAYS, DEFAULT_LEAF_DAYS, create_authority, issue
from phxqueue.net.identity import Identity, IdentityError, Role, identity_of
from phxqueue.net.tls import read_certificate

#: A certificate that ends sooner than this is worth a warning.
RENEW_SOON_DAYS = 30


def leaves(cluster: Cluster) -> Iterator[Leaf]:
    """Every certificate that the processes of a cluster's files use, and those of producers and operators."""
    for topic in cluster.topics:
        for store in topic.stores:
            for node in store.nodes:
                yield Leaf("store", f"{store.store_id}/{node.node_id}", (node.ip,))
        for lock in topic.locks:
            for node in lock.nodes:
                yield Leaf("lock", f"{lock.lock_id}/{node.node_id}", (node.ip,))
        for scheduler in topic.scheduler:
            yield Leaf("scheduler", scheduler.name, (scheduler.ip,))
        for consumer in topic.consumers:
            yield Leaf("consumer", consumer.name, (consumer.ip,))
    yield Leaf("client", DEFAULT_CLIENT, ())
    yield Leaf("admin", DEFAULT_ADMIN, ())


def identity_for(role: str, name: str) -> Identity:
    """Return the identity of a role and the name it goes by: "1/0" for node 0 of store 1.

    Raises:
        IdentityError: saying what is wrong with the name.
    """
    kind = Role(role)
    group, slash, node = name.partition("/")
    if not kind.has_nodes:
        return Identity.make(kind, name)
    if not slash or not node.isdecimal():
        raise IdentityError(f"{name!r} is not the name of a {role} node: write {role} id and node id, for example 1/0")
    return Identity.make(kind, group, int(node))


def directory_of(cluster: Cluster) -> Path:
    """Where the certificates of a cluster lie.

    Raises:
        AdminError: TLS is off there.
    """
    if cluster.certificates is None:
        raise AdminError(
            f"TLS is off in {cluster.path}: no certificates are used; turn it on there, or name a --directory"
        )
    return cluster.certificates


def operator_tls(cluster: Cluster) -> TlsPaths | None:
    """The files of the operator's certificate, if this user can read them, else those of a client; None: TLS is off."""
    if cluster.tls is None or cluster.certificates is None:
        return cluster.tls
    paths = certificate_paths(cluster.certificates, "admin", DEFAULT_ADMIN)
    if not all(os.access(path, os.R_OK) for path in (paths.certificate, paths.key)):
        return cluster.tls
    return replace(paths, ca=cluster.tls.ca)


def is_missing(directory: Path, leaf: Leaf) -> bool:
    paths = certificate_paths(directory, leaf.role, leaf.name)
    return not (paths.certificate.exists() and paths.key.exists())


def issue_leaf(directory: Path, leaf: Leaf, *, days: int = DEFAULT_LEAF_DAYS, output: Path | None = None) -> Path:
    """Issue one certificate under the name by which its process looks for it; returns its file.

    Raises:
        CertificateFilesError: no authority in `directory`, or the files exist already.
    """
    target = output or directory
    stem = certificate_paths(target, leaf.role, leaf.name).certificate.stem
    identity = identity_for(leaf.role, leaf.name)
    return issue(directory, identity, leaf.hosts, days=days, file_stem=stem, output=target).certificate


def make_missing(
    directory: Path,
    wanted: Iterable[Leaf],
    *,
    days: int = DEFAULT_LEAF_DAYS,
    authority_days: int = DEFAULT_AUTHORITY_DAYS,
    name: str = "phxqueue",
) -> list[Path]:
    """Make the authority and the leaves that are not there yet; returns what was made, in that order.

    Raises:
        AdminError: there are leaves but no authority that could have issued them, or only a part of one.
        CertificateFilesError: a file cannot be written.
    """
    authority = (directory / AUTHORITY_CERTIFICATE, directory / AUTHORITY_KEY)
    missing = [leaf for leaf in wanted if is_missing(directory, leaf)]
    made: list[Path] = []
    if not missing and authority[0].exists():
        return made
    if not any(path.exists() for path in authority):
        strays = sorted(path.name for path in directory.glob("*.pem"))
        if strays:
            raise AdminError(
                f"{directory} holds certificates ({', '.join(strays[:5])}{', ...' if len(strays) > 5 else ''}) but not "
                f"the {AUTHORITY_CERTIFICATE} and {AUTHORITY_KEY} that made them: put these back, or remove all and "
                "start anew"
            )
        made.append(create_authority(directory, name=name, days=authority_days).certificate)
    made += [issue_leaf(directory, leaf, days=days) for leaf in missing]
    return made


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What `phxqueue certs show` prints of one file."""

    path: Path
    identity: str
    hosts: tuple[str, ...]
    not_after: datetime
    is_authority: bool

    def days_left(self, now: datetime) -> int:
        """Whole days until it ends; negative once it has."""
        return (self.not_after - now).days


def facts_of(path: Path) -> CertificateFacts:
    """Read one certificate.

    Raises:
        TlsError: it cannot be read.
    """
    certificate = read_certificate(path)
    is_authority = _is_authority(certificate)
    if is_authority:
        identity = f"authority {certificate.subject.rfc4514_string()}"
    else:
        try:
            identity = identity_of(certificate).uri
        except IdentityError as error:
            identity = f"no phxqueue identity ({error})"
    return CertificateFacts(path, identity, _hosts(certificate), certificate.not_valid_after_utc, is_authority)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def now_utc() -> datetime:
    return datetime.now(timezone.utc)
