"""TLS of one connection as a transformation of bytes, on pyOpenSSL.

It works on memory buffers and knows no socket, so it is tested without one, and the connection above it decides when to
write. One small message through it (encrypt, decrypt, all calls) costs some 10 µs more than through the standard
library's `ssl`; connections write once per reactor turn, so a busy one pays that per turn and not per message.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from OpenSSL import SSL, crypto

from phxqueue.net.identity import Identity, IdentityError, identity_of
from phxqueue.net.tls_records import RecordCounter

ALPN = "phxqueue/1"
"""Names the protocol and its version in the TLS handshake."""

_READ_BYTES = 65536
_RECORD_BYTES = 16384  # most plaintext in one TLS record
_RECORD_OVERHEAD = 64  # more than a record adds to it


class TlsFailure(Exception):
    """The TLS conversation with a peer failed; says why, for people.

    Attributes:
        of_identity: True when certificates are the reason, theirs or ours.
    """

    def __init__(self, message: str, *, of_identity: bool) -> None:
        super().__init__(message)
        self.of_identity = of_identity


def make_context(*, server_side: bool, alpn: str | None = ALPN) -> SSL.Context:
    """A context of TLS 1.3 that demands a certificate of the peer; the caller loads certificates into it."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD if server_side else SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verified)
    # Connections are few and long: sessions are not resumed.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    if alpn is not None:
        offered = alpn.encode()

        def choose(connection: SSL.Connection, theirs: list[bytes]) -> bytes | Any:
            return offered if offered in theirs else SSL.NO_OVERLAPPING_PROTOCOLS

        if server_side:
            context.set_alpn_select_callback(choose)
        else:
            context.set_alpn_protos([offered])
    return context


def _verified(connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
    """OpenSSL's verdict stands; the engine only remembers why it was negative."""
    if not ok:
        engine = connection.get_app_data()
        if isinstance(engine, TlsEngine):
            engine.verify_code = code
    return bool(ok)


class TlsEngine:
    """TLS of one connection.

    Attributes:
        handshake_done: whether `encrypt` may be used, and the peer's identity is known.
        closed: whether the peer has ended the conversation properly.
        verify_code: OpenSSL's code of why the peer's certificate was refused; 0 = it was not.
    """

    __slots__ = ("_records", "_ssl", "closed", "handshake_done", "verify_code")

    def __init__(self, context: SSL.Context, *, server_side: bool) -> None:
        self._ssl = SSL.Connection(context, None)
        self._ssl.set_app_data(self)
        if server_side:
            self._ssl.set_accept_state()
        else:
            self._ssl.set_connect_state()
        self._records = RecordCounter()
        self.handshake_done = False
        self.closed = False
        self.verify_code = 0

    def start(self) -> None:
        """Begin the handshake; then send `outgoing()`.

        Raises:
            TlsFailure: never in practice, at this point.
        """
        self._shake_hands()

    def receive(self, data: bytes) -> list[bytes]:
        """Take bytes from the peer; return the plaintext they hold. There may be `outgoing()` bytes after it.

        Raises:
            TlsFailure: the conversation is over; `outgoing()` may hold an alert for the peer.
        """
        session = self._ssl
        if data:
            session.bio_write(data)
        records = self._records.feed(data)
        if not self.handshake_done:
            self._shake_hands()
            if not self.handshake_done:
                return []
        plaintext: list[bytes] = []
        try:
            for _ in range(records):  # at most: some are of the handshake
                plaintext.append(session.recv(_RECORD_BYTES))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.closed = True
        except SSL.SysCallError:
            self.closed = True
        except SSL.Error as error:
            raise self._failure(error) from error
        return plaintext

    def encrypt(self, plaintext: bytes) -> bytes:
        """The bytes to send for `plaintext` (which must not be empty), after the handshake.

        Raises:
            TlsFailure: the conversation is over.
        """
        try:
            # Not `send`: it makes one record, and the rest would have to be copied to be sent again.
            self._ssl.sendall(plaintext)
        except SSL.Error as error:
            raise self._failure(error) from error
        records = len(plaintext) // _RECORD_BYTES + 1
        return self._take(len(plaintext) + records * _RECORD_OVERHEAD)

    def outgoing(self) -> bytes:
        """Bytes that TLS itself wants sent."""
        return self._take(_READ_BYTES)

    def _take(self, size: int) -> bytes:
        """All that waits to be sent; `size`: more than that is not expected (but would be taken as well)."""
        pieces: list[bytes] = []
        with suppress(SSL.WantReadError):
            while not pieces or len(pieces[-1]) == size:  # a short piece was the last: no need to be told so
                pieces.append(self._ssl.bio_read(size))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> bytes:
        """End the conversation properly; returns the last bytes to send."""
        # It complains when nothing has begun; that does not matter any more.
        with suppress(SSL.Error):
            self._ssl.shutdown()
        self._ssl.set_app_data(None)  # else engine and connection keep each other alive
        return self.outgoing()

    @property
    def protocol(self) -> str | None:
        """The application protocol both sides agreed upon; None = they did not."""
        return self._ssl.get_alpn_proto_negotiated().decode() or None

    def peer_identity(self) -> Identity:
        """Who the peer proved to be.

        Raises:
            IdentityError: its certificate names no identity, or more than one.
        """
        certificate = self._ssl.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            raise IdentityError("the peer presented no certificate")
        return identity_of(certificate)

    def _shake_hands(self) -> None:
        try:
            self._ssl.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            raise self._failure(error) from error
        self.handshake_done = True

    def _failure(self, error: SSL.Error) -> TlsFailure:
        if self.verify_code:
            text = _VERIFY_CODES.get(self.verify_code) or f"the peer's certificate is refused (code {self.verify_code})"
            return TlsFailure(text, of_identity=True)
        reason = openssl_reason(error)
        text, of_identity = _REASONS.get(reason, (f"TLS error: {reason or error!r}", "certificate" in reason))
        return TlsFailure(text, of_identity=of_identity)


def openssl_reason(error: SSL.Error) -> str:
    """OpenSSL's own words for what went wrong, without what changes from version to version ("sslv3 alert ...")."""
    if error.args and isinstance(error.args[0], list) and error.args[0]:
        return _ALERT.sub("alert", str(error.args[0][-1][2]))
    return "unexpected eof while reading" if isinstance(error, SSL.SysCallError) else ""


_ALERT = re.compile(r"^(ssl|tls)\S* alert\b")

_NO_TLS = "the peer does not speak TLS (is tls off on its side, or is it another program?)"

_REASONS: dict[str, tuple[str, bool]] = {
    "http request": ("the peer speaks plain HTTP; this port speaks TLS", False),
    "https proxy request": ("the peer speaks plain HTTP; this port speaks TLS", False),
    "wrong version number": (_NO_TLS, False),
    "packet length too long": (_NO_TLS, False),
    "record layer failure": (_NO_TLS, False),
    "unexpected eof while reading": ("the peer closed the connection during the TLS handshake", False),
    "unsupported protocol": ("the peer offers no TLS 1.3", False),
    "alert protocol version": ("the peer accepts no TLS 1.3", False),
    "no application protocol": (f"the peer does not offer the protocol {ALPN}", False),
    "alert no application protocol": (f"the peer does not speak the protocol {ALPN}", False),
    "peer did not return a certificate": ("the peer presents no certificate", True),
    "alert certificate required": ("the peer wants a certificate from us", True),
    "alert unknown ca": ("the peer does not trust the authority of our certificate", True),
    "alert certificate expired": ("the peer says our certificate has expired", True),
    "alert certificate unknown": ("the peer rejects our certificate", True),
    "alert bad certificate": ("the peer rejects our certificate as bad", True),
    "alert unsupported certificate": ("the peer says our certificate is not meant for this purpose", True),
    "alert certificate revoked": ("the peer says our certificate is revoked", True),
    "alert decrypt error": ("the peer cannot verify our signature (is the key another one's?)", True),
    "alert access denied": ("the peer denies us access", True),
}

_VERIFY_CODES: dict[int, str] = {
    9: "the peer's certificate is not valid yet (are both clocks right?)",
    10: "the peer's certificate has expired: renew it (phxqueue certs renew)",
    18: "the peer's certificate is self-signed, not of our authority",
    19: "the peer's certificate comes from another authority than ours",
    20: "the peer's certificate comes from another authority than ours",
    7: "the peer's certificate is not signed by our authority (two authorities of one name?)",
    26: "the peer's certificate is not meant for this purpose (a client's certificate on a server?)",
}
