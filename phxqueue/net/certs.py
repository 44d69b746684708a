"""A private certificate authority and the leaf certificates it issues.

Everything lies in one directory as PEM files: `ca.pem`, `ca.key`, and for each principal
`<stem>.pem` and `<stem>.key` (the stem of node 0 of store 1 is "store-1-0", of client "anna"
"client-anna"). Keys are EC P-256, readable by the owner only. Nothing is ever overwritten, except a
certificate by its renewal, and that atomically.

`ca.key` is needed to issue and renew only; keep it off the machines that run the queue.
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from phxqueue.net.identity import Identity, Role, identity_of
from phxqueue.net.tls import TlsError, TlsPaths, read_certificate

DEFAULT_AUTHORITY_DAYS = 3650
DEFAULT_LEAF_DAYS = 825
_HOST_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
CLOCK_SKEW = timedelta(minutes=5)  # certificates are valid from so long ago: clocks differ


class CertificateFilesError(Exception):
    """Files that exist already, cannot be written, or do not fit together; names file and remedy."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Where an authority lies."""

    certificate: Path
    key: Path

    @classmethod
    def in_directory(cls, directory: Path) -> Authority:
        """The authority of a directory, whether it exists or not."""
        return cls(directory / "ca.pem", directory / "ca.key")


def create_authority(directory: Path, *, name: str = "phxqueue", days: int = DEFAULT_AUTHORITY_DAYS) -> Authority:
    """Make an authority in `directory` (which is made when missing).

    Raises:
        CertificateFilesError: there is one already, or the files cannot be written.
    """
    authority = Authority.in_directory(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    # The random part keeps two authorities of one name apart in error messages.
    subject = _name(f"{name} authority {secrets.token_hex(4)}")
    usage = _key_usage(key_cert_sign=True, crl_sign=True)
    builder = (
        _builder(subject, subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    _write_pair(authority.certificate, authority.key, builder.sign(key, hashes.SHA256()), key)
    return authority


def default_stem(identity: Identity) -> str:
    """The file name, without ending, under which a certificate is kept."""
    node = "" if identity.node is None else f"-{identity.node}"
    return f"{identity.role.value}-{identity.name}{node}"


def issue(
    directory: Path,
    identity: Identity,
    hosts: Sequence[str] = (),
    *,
    days: int = DEFAULT_LEAF_DAYS,
    file_stem: str | None = None,
    output: Path | None = None,
) -> TlsPaths:
    """Issue a certificate for `identity`, signed by the authority of `directory`.

    Args:
        directory: where `ca.pem` and `ca.key` are.
        identity: who it is for; becomes a URI among the alternative names.
        hosts: IP addresses and DNS names it listens on, for clients that compare them (ours do not).
        days: how long it is valid.
        file_stem: file name without ending; default `default_stem(identity)`.
        output: directory of the new files; default `directory`.

    Raises:
        CertificateFilesError: no authority there, the files exist already, or cannot be written.
    """
    authority = Authority.in_directory(directory)
    ca_key, ca_certificate = _load_authority(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign_leaf(ca_key, ca_certificate, key.public_key(), identity, hosts, days)
    target = (output or directory) / (file_stem or default_stem(identity))
    paths = TlsPaths(authority.certificate, Path(f"{target}.pem"), Path(f"{target}.key"))
    _write_pair(paths.certificate, paths.key, certificate, key)
    return paths


def renew(directory: Path, certificate: Path, *, days: int = DEFAULT_LEAF_DAYS) -> Path:
    """Issue a certificate again for the same identity, hosts and key, from now on.

    The key stays, so that one atomic replacement of one file is all that happens: a process that
    reloads at that very moment sees the old pair or the new, never a mixture.

    Raises:
        CertificateFilesError: no such certificate or authority, or it cannot be written.
    """
    authority = Authority.in_directory(directory)
    ca_key, ca_certificate = _load_authority(authority)
    try:
        old = read_certificate(certificate)
        identity = identity_of(old)
    except (TlsError, ValueError) as error:
        raise CertificateFilesError(f"{certificate} cannot be renewed: {error}") from error
    names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [str(name.value) for name in names if isinstance(name, (x509.DNSName, x509.IPAddress))]
    public_key = old.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise CertificateFilesError(f"{certificate} has no EC key: issue a new one with `phxqueue certs issue`")
    renewed = _sign_leaf(ca_key, ca_certificate, public_key, identity, hosts, days)
    temporary = _write_temporary(certificate, renewed.public_bytes(serialization.Encoding.PEM), 0o644)
    try:
        os.replace(temporary, certificate)
    except OSError as error:
        _remove(temporary)
        raise CertificateFilesError(f"{certificate}: {error.strerror}") from error
    return certificate


# ---- certificates --------------------------------------------------------------------------------


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    if days < 1:
        raise CertificateFilesError(f"a certificate must be valid for at least one day, not {days}")
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _sign_leaf(
    ca_key: ec.EllipticCurvePrivateKey,
    ca_certificate: x509.Certificate,
    public_key: ec.EllipticCurvePublicKey,
    identity: Identity,
    hosts: Sequence[str],
    days: int,
) -> x509.Certificate:
    # A client's certificate must not do for a server, or any producer could pose as a store.
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if identity.role not in (Role.CLIENT, Role.ADMIN):
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri), *map(_host_name, hosts)]
    builder = (
        _builder(_name(str(identity)), ca_certificate.subject, public_key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    return builder.sign(ca_key, hashes.SHA256())


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not _HOST_NAME.fullmatch(host):
        raise CertificateFilesError(f"{host!r} is neither an IP address nor a host name (letters, digits, - and .)")
    return x509.DNSName(host)


def _load_authority(authority: Authority) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    hint = f"make an authority with `phxqueue certs init` (looked in {authority.certificate.parent})"
    try:
        certificate = read_certificate(authority.certificate)
        key = serialization.load_pem_private_key(authority.key.read_bytes(), password=None)
    except TlsError as error:
        raise CertificateFilesError(f"{error}; {hint}") from error
    except OSError as error:
        raise CertificateFilesError(f"{authority.key}: {error.strerror or error}; {hint}") from error
    except (TypeError, ValueError) as error:
        raise CertificateFilesError(f"{authority.key}: not a usable private key; {hint}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise CertificateFilesError(f"{authority.key} is not the key of {authority.certificate}; {hint}")
    if certificate.not_valid_after_utc < datetime.now(timezone.utc):
        raise CertificateFilesError(
            f"{authority.certificate}: expired on {certificate.not_valid_after_utc:%Y-%m-%d}; {hint}"
        )
    return key, certificate


# ---- files ---------------------------------------------------------------------------------------


def _write_pair(
    certificate_path: Path, key_path: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    """Both files or none."""
    key_bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for path in (certificate_path, key_path):
        if path.exists():
            raise CertificateFilesError(f"{path} exists already; remove it first if it is no longer needed")
    _write_new(key_path, key_bytes, 0o600)
    try:
        _write_new(certificate_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except CertificateFilesError:
        _remove(key_path)
        raise


def _write_new(path: Path, content: bytes, mode: int) -> None:
    temporary = _write_temporary(path, content, mode)
    try:
        os.link(temporary, path)  # unlike a rename, this never replaces
    except FileExistsError as error:
        raise CertificateFilesError(f"{path} exists already; remove it first if it is no longer needed") from error
    except OSError as error:
        raise CertificateFilesError(f"{path}: {error.strerror}") from error
    finally:
        _remove(temporary)


def _write_temporary(path: Path, content: bytes, mode: int) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        _remove(temporary)
        raise CertificateFilesError(f"{path}: {error.strerror or error}") from error
    return temporary


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()
