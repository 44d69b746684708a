"""Certificates that `phxqueue certs` would never issue."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from phxqueue.net.tls import TlsPaths, read_certificate


def forge(
    directory: Path,
    stem: str,
    uris: list[str],
    *,
    begin: timedelta = timedelta(days=-1),
    end: timedelta = timedelta(days=1),
) -> TlsPaths:
    """A certificate signed by the authority of `directory`, with whatever names and dates."""
    ca_key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    authority = read_certificate(directory / "ca.pem")
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(timezone.utc)
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, stem)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    )
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    paths = TlsPaths(directory / "ca.pem", directory / f"{stem}.pem", directory / f"{stem}.key")
    paths.certificate.write_bytes(builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    paths.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
