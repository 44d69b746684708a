"""Mutual TLS 1.3: contexts built from PEM files, and everything that can be wrong with the files.

Trust: both sides present a certificate of one private authority. Host names are not compared; who the peer is stands in
the certificate as an identity URI (`phxqueue.net.identity`), and that is checked instead, by `RpcConnection`.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from OpenSSL import SSL

from phxqueue.config.certificates import TlsPaths as TlsPaths
from phxqueue.net.identity import Identity, IdentityError, identity_of
from phxqueue.net.tls_engine import ALPN, TlsEngine, make_context, openssl_reason


class TlsError(Exception):
    """A certificate, key or authority that cannot be used; names the file, the problem and the remedy."""


class _Tls:
    """Context and identity read from files."""

    _server_side: bool

    def __init__(self, paths: TlsPaths, *, alpn: str | None = ALPN) -> None:
        self.paths = paths
        self._alpn = alpn  # None: another protocol than ours
        self._context, self.identity = _load(paths, server_side=self._server_side, alpn=alpn)

    @property
    def context(self) -> SSL.Context:
        """For one new connection that somebody else makes."""
        return self._context

    def reload(self) -> None:
        """Read the files again; connections made from now on use what they hold.

        Raises:
            TlsError: and then what was loaded before stays in use.
        """
        self._context, self.identity = _load(self.paths, server_side=self._server_side, alpn=self._alpn)

    def require(self, wanted: Identity) -> None:
        """Refuse a certificate that was issued to somebody else.

        Raises:
            TlsError: naming the file, whose it is and who this is.
        """
        if self.identity != wanted:
            raise TlsError(
                f"{self.paths.certificate} is the certificate of {self.identity} ({self.identity.uri}), but this is "
                f"{wanted} ({wanted.uri}): name the right file under `tls:`, or issue one with `phxqueue certs issue`"
            )

    def engine(self) -> TlsEngine:
        """The TLS of one new connection."""
        return TlsEngine(self._context, server_side=self._server_side)


class ServerTls(_Tls):
    """What a listener needs. `identity` is what its certificate says it is."""

    _server_side = True


class ClientTls(_Tls):
    """What a connecting side needs. `identity` is what its certificate says it is."""

    _server_side = False


def server_tls(paths: TlsPaths) -> ServerTls:
    """Load a listener's certificates.

    Raises:
        TlsError: a file is missing, unreadable, expired, of another authority, or names no identity.
    """
    return ServerTls(paths)


def client_tls(paths: TlsPaths) -> ClientTls:
    """Load a client's certificates. Raises TlsError as `server_tls` does."""
    return ClientTls(paths)


# ---- loading -----------------------------------------------------------------------------------


def _load(paths: TlsPaths, *, server_side: bool, alpn: str | None) -> tuple[SSL.Context, Identity]:
    identity = _check_files(paths)
    context = make_context(server_side=server_side, alpn=alpn)
    try:
        context.use_certificate_chain_file(str(paths.certificate))
        context.use_privatekey_file(str(paths.key))
        context.check_privatekey()
    except SSL.Error as error:
        if openssl_reason(error) == "key values mismatch":
            raise TlsError(f"{paths.key} is not the key of {paths.certificate}: issue the pair again") from error
        raise TlsError(f"{paths.key}: not a usable private key ({openssl_reason(error) or error!r})") from error
    try:
        context.load_verify_locations(str(paths.ca))
    except SSL.Error as error:
        raise TlsError(f"{paths.ca}: not a usable authority ({openssl_reason(error) or error!r})") from error
    return context, identity


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file.

    Raises:
        TlsError: the file is missing, unreadable, or holds none.
    """
    return _read_certificates(path)[0]


def _read_certificates(path: Path) -> list[x509.Certificate]:
    """All of them: an authority that is being replaced stands beside its successor in one file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TlsError(
            f"{path}: {error.strerror or error}; make certificates with "
            "`phxqueue certs init` and `phxqueue certs issue`"
        ) from error
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise TlsError(f"{path}: holds no PEM certificate ({error})") from error


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (TypeError, ValueError, InvalidSignature):
        return False
    return True


def _check_files(paths: TlsPaths) -> Identity:
    """Say what is wrong with the files before OpenSSL says it worse."""
    authorities = _read_certificates(paths.ca)
    certificate = read_certificate(paths.certificate)
    try:
        with paths.key.open("rb"):
            pass
    except OSError as error:
        raise TlsError(f"{paths.key}: {error.strerror or error}") from error
    now = datetime.now(timezone.utc)
    for path, held in (*((paths.ca, authority) for authority in authorities), (paths.certificate, certificate)):
        if now < held.not_valid_before_utc:
            begin = f"{held.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            raise TlsError(f"{path}: not valid before {begin}; is the clock right?")
        if now > held.not_valid_after_utc:
            end = f"{held.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            raise TlsError(f"{path}: expired on {end}; renew it with `phxqueue certs renew`")
    if not any(_issued(certificate, authority) for authority in authorities):
        raise TlsError(f"{paths.certificate}: not issued by the authority {paths.ca}; use the ca.pem it came with")
    try:
        return identity_of(certificate)
    except IdentityError as error:
        raise TlsError(f"{paths.certificate}: {error}; issue it with `phxqueue certs issue`") from error
