from __future__ import annotations

import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from phxqueue.net.certs import CertificateFilesError, create_authority, default_stem, issue, renew
from phxqueue.net.identity import Identity, Role, identity_of
from phxqueue.net.tls import TlsError, read_certificate, server_tls

STORE = Identity.store(1, 0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    create_authority(tmp_path / "certs")
    return tmp_path / "certs"


def purposes(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_an_authority_and_a_leaf(directory: Path) -> None:
    paths = issue(directory, STORE, ["127.0.0.1", "::1", "store0.example"])
    leaf, authority = read_certificate(paths.certificate), read_certificate(paths.ca)
    leaf.verify_directly_issued_by(authority)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert identity_of(leaf) == STORE
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert names.get_values_for_type(x509.DNSName) == ["store0.example"]
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    assert purposes(leaf) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert leaf.not_valid_before_utc < datetime.now(timezone.utc)
    assert paths.certificate.name == "store-1-0.pem"
    assert server_tls(paths).identity == STORE


def test_a_client_certificate_does_not_do_for_a_server(directory: Path) -> None:
    paths = issue(directory, Identity(Role.CLIENT, "anna"), file_stem="client", output=directory / "sub")
    assert purposes(read_certificate(paths.certificate)) == {ExtendedKeyUsageOID.CLIENT_AUTH}
    assert paths.certificate == directory / "sub" / "client.pem"


def test_only_the_owner_reads_keys(directory: Path) -> None:
    paths = issue(directory, STORE)
    for key in (directory / "ca.key", paths.key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert sorted(path.name for path in directory.iterdir()) == ["ca.key", "ca.pem", "store-1-0.key", "store-1-0.pem"]


def test_nothing_is_overwritten(directory: Path) -> None:
    paths = issue(directory, STORE)
    before = {path: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(CertificateFilesError, match=r"store-1-0\.pem exists already"):
        issue(directory, STORE)
    with pytest.raises(CertificateFilesError, match=r"ca\.pem exists already"):
        create_authority(directory)
    paths.certificate.unlink()
    with pytest.raises(CertificateFilesError, match=r"store-1-0\.key exists already"):
        issue(directory, STORE)
    del before[paths.certificate]
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


def test_a_renewal_keeps_identity_hosts_and_key(directory: Path) -> None:
    paths = issue(directory, STORE, ["127.0.0.1", "store0.example"], days=1)
    old, key = read_certificate(paths.certificate), paths.key.read_bytes()
    assert renew(directory, paths.certificate, days=30) == paths.certificate
    new = read_certificate(paths.certificate)
    assert new.not_valid_after_utc - old.not_valid_after_utc >= timedelta(days=28)
    assert new.serial_number != old.serial_number
    san = x509.SubjectAlternativeName
    assert new.extensions.get_extension_for_class(san) == old.extensions.get_extension_for_class(san)
    assert paths.key.read_bytes() == key
    server_tls(paths)


@pytest.mark.parametrize("host", ["queue example", "ümlaut.example", "", "300.1.1.1:5100"])
def test_a_bad_host_is_named(directory: Path, host: str) -> None:
    with pytest.raises(CertificateFilesError, match=f"'{host}' is neither"):
        issue(directory, STORE, [host])


def test_errors_name_file_and_remedy(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(CertificateFilesError, match=r"ca\.pem.*phxqueue certs init"):
        issue(tmp_path / "nowhere", STORE)
    with pytest.raises(CertificateFilesError, match=r"none\.pem cannot be renewed"):
        renew(directory, directory / "none.pem")
    with pytest.raises(CertificateFilesError, match="at least one day"):
        issue(directory, STORE, days=0)
    (tmp_path / "file").write_text("x")
    with pytest.raises(CertificateFilesError, match="file"):
        create_authority(tmp_path / "file")


def test_a_key_that_is_not_the_authoritys(directory: Path, tmp_path: Path) -> None:
    create_authority(tmp_path / "other")
    (directory / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(CertificateFilesError, match=r"ca\.key is not the key of"):
        issue(directory, STORE)
    (directory / "ca.key").write_text("no key")
    with pytest.raises(CertificateFilesError, match=r"ca\.key: not a usable private key"):
        issue(directory, STORE)
    (directory / "ca.key").unlink()
    with pytest.raises(CertificateFilesError, match=r"ca\.key: No such file"):
        issue(directory, STORE)


@pytest.mark.parametrize(
    ("identity", "stem"),
    [(STORE, "store-1-0"), (Identity(Role.CONSUMER, "a.b"), "consumer-a.b"), (Identity(Role.LOCK, "2", 1), "lock-2-1")],
)
def test_file_names(identity: Identity, stem: str) -> None:
    assert default_stem(identity) == stem


def test_an_unreadable_authority_is_an_error_of_tls_files_too(directory: Path) -> None:
    paths = issue(directory, STORE)
    (directory / "ca.pem").write_text("nothing")
    with pytest.raises(TlsError, match=r"ca\.pem: holds no PEM certificate"):
        server_tls(paths)
