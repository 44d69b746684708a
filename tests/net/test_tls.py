from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from phxqueue.net.certs import issue
from phxqueue.net.identity import Identity, IdentityError, Role
from phxqueue.net.tls import TlsError, TlsPaths, client_tls, server_tls
from phxqueue.net.tls_engine import ALPN, TlsEngine, TlsFailure, make_context
from tests.net.conftest import Certificates


def raw_engine(paths: TlsPaths, *, server_side: bool, alpn: str | None = ALPN) -> TlsEngine:
    """An engine with certificates that `client_tls` and `server_tls` would refuse to load."""
    context = make_context(server_side=server_side, alpn=alpn)
    context.use_certificate_chain_file(str(paths.certificate))
    context.use_privatekey_file(str(paths.key))
    context.load_verify_locations(str(paths.ca))
    return TlsEngine(context, server_side=server_side)


def shake_hands(client: TlsEngine, server: TlsEngine) -> tuple[str, str]:
    """Run both; returns how each of them failed ("" = it did not)."""
    failures = ["", ""]
    client.start()
    server.start()
    for _ in range(6):
        for number, (source, target) in enumerate(((client, server), (server, client))):
            try:
                target.receive(source.outgoing())
            except TlsFailure as failure:
                failures[1 - number] = failures[1 - number] or str(failure)
    return failures[0], failures[1]


@pytest.fixture
def pair(certificates: Certificates) -> tuple[TlsEngine, TlsEngine]:
    client, server = client_tls(certificates.client).engine(), server_tls(certificates.store).engine()
    assert shake_hands(client, server) == ("", "")
    return client, server


def test_both_sides_know_each_other(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    assert client.handshake_done
    assert server.handshake_done
    assert client.peer_identity() == Identity.store(1, 0)
    assert server.peer_identity() == Identity(Role.CLIENT, "anna")
    assert client.protocol == server.protocol == ALPN


def test_only_tls_1_3(certificates: Certificates) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    _, failure = shake_hands(TlsEngine(context, server_side=False), server_tls(certificates.store).engine())
    assert failure == "the peer offers no TLS 1.3"


def test_bytes_come_through_in_any_chunks(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    data = bytes(range(256)) * 400  # several records
    wire = client.encrypt(data[:70_000]) + client.encrypt(data[70_000:])
    received = [piece for start in range(0, len(wire), 777) for piece in server.receive(wire[start : start + 777])]
    assert b"".join(received) == data
    assert b"".join(client.receive(server.encrypt(b"back"))) == b"back"


def test_a_proper_end(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    assert server.receive(client.encrypt(b"last") + client.close()) == [b"last"]
    assert server.closed
    assert server.receive(b"") == []


def test_an_engine_that_never_began_can_be_closed(certificates: Certificates) -> None:
    assert client_tls(certificates.client).engine().close() == b""


@pytest.mark.parametrize(
    ("bad", "client_says", "server_says"),
    [
        ("expired", "the peer says our certificate has expired", "the peer's certificate has expired"),
        ("early", "the peer rejects our certificate", "the peer's certificate is not valid yet"),
        ("mixed", "the peer does not trust the authority", "the peer's certificate comes from another authority"),
    ],
)
def test_a_client_with_a_bad_certificate(
    certificates: Certificates, bad: str, client_says: str, server_says: str
) -> None:
    client = raw_engine(getattr(certificates, bad), server_side=False)
    failures = shake_hands(client, server_tls(certificates.store).engine())
    assert failures[0].startswith(client_says)
    assert failures[1].startswith(server_says)


@pytest.mark.parametrize(
    ("bad", "client_says", "server_says"),
    [
        ("expired", "the peer's certificate has expired", "the peer says our certificate has expired"),
        ("mixed", "the peer's certificate comes from another authority", "the peer does not trust the authority"),
        ("client", "the peer's certificate is not meant for this purpose", "the peer says our certificate is not"),
    ],
)
def test_a_server_with_a_bad_certificate(
    certificates: Certificates, bad: str, client_says: str, server_says: str
) -> None:
    server = raw_engine(getattr(certificates, bad), server_side=True)
    failures = shake_hands(client_tls(certificates.client).engine(), server)
    assert failures[0].startswith(client_says)
    assert failures[1].startswith(server_says)


def test_a_client_without_a_certificate(certificates: Certificates) -> None:
    context = make_context(server_side=False)
    context.load_verify_locations(str(certificates.store.ca))
    failures = shake_hands(TlsEngine(context, server_side=False), server_tls(certificates.store).engine())
    assert failures == ("the peer wants a certificate from us", "the peer presents no certificate")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "plain HTTP"),
        (b"hello, are you there?\r\n", "does not speak TLS"),
        (b"\0\0\0\x04\x08\x04\x10\x00", "does not speak TLS"),
    ],
)
def test_a_peer_that_speaks_something_else(certificates: Certificates, data: bytes, words: str) -> None:
    server = server_tls(certificates.store).engine()
    with pytest.raises(TlsFailure, match=words) as caught:
        server.receive(data)
    assert not caught.value.of_identity


@given(st.binary(max_size=400), st.booleans())
def test_garbage_never_raises_anything_else(certificates: Certificates, data: bytes, within: bool) -> None:
    client, server = client_tls(certificates.client).engine(), server_tls(certificates.store).engine()
    if within:
        shake_hands(client, server)
    with suppress(TlsFailure):
        server.receive(data)
        server.receive(client.encrypt(b"x") if within else data)


@pytest.mark.parametrize(("bad", "words"), [("nameless", "no phxqueue identity"), ("two_names", "more than one")])
def test_certificates_without_one_identity(certificates: Certificates, bad: str, words: str) -> None:
    client = raw_engine(getattr(certificates, bad), server_side=False)
    server = server_tls(certificates.store).engine()
    shake_hands(client, server)
    with pytest.raises(IdentityError, match=words):
        server.peer_identity()
    with pytest.raises(TlsError, match=f"{words}.*phxqueue certs issue"):
        client_tls(getattr(certificates, bad))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("expired", r"expired\.pem: expired on .* UTC; renew it with `phxqueue certs renew`"),
        ("early", r"early\.pem: not valid before .* UTC; is the clock right"),
        ("mixed", "not issued by the authority"),
    ],
)
def test_bad_files_are_refused_when_loaded(certificates: Certificates, bad: str, words: str) -> None:
    with pytest.raises(TlsError, match=words):
        server_tls(getattr(certificates, bad))


def test_missing_and_mismatched_files(certificates: Certificates, tmp_path: Path) -> None:
    good = certificates.client
    missing = tmp_path / "none"
    with pytest.raises(TlsError, match=f"{missing}: No such file.*phxqueue certs"):
        client_tls(replace(good, ca=missing))
    with pytest.raises(TlsError, match=f"{missing}: No such file.*phxqueue certs"):
        client_tls(replace(good, certificate=missing))
    with pytest.raises(TlsError, match=f"{missing}: No such file"):
        client_tls(replace(good, key=missing))
    with pytest.raises(TlsError, match="is not the key of"):
        client_tls(replace(good, key=certificates.store.key))
    with pytest.raises(TlsError, match="not a usable private key"):
        client_tls(replace(good, key=good.certificate))


def test_reload(certificates: Certificates, tmp_path: Path) -> None:
    files = TlsPaths(tmp_path / "ca.pem", tmp_path / "c.pem", tmp_path / "c.key")

    def install(source: TlsPaths) -> None:
        for name in ("ca", "certificate", "key"):
            shutil.copy(getattr(source, name), getattr(files, name))

    install(certificates.client)
    tls = client_tls(files)
    install(issue(certificates.directory, Identity(Role.CLIENT, "berta"), output=tmp_path / "new"))
    assert tls.identity.name == "anna"
    tls.reload()
    assert tls.identity.name == "berta"
    install(certificates.expired)
    with pytest.raises(TlsError, match="expired"):
        tls.reload()
    client, server = tls.engine(), server_tls(certificates.store).engine()
    assert shake_hands(client, server) == ("", "")
    assert server.peer_identity().name == "berta"  # what was loaded before stays in use


def test_an_authority_beside_its_successor(certificates: Certificates, tmp_path: Path) -> None:
    """To change authorities, both stand in ca.pem for a while."""
    both = tmp_path / "ca.pem"
    both.write_bytes(certificates.stranger.ca.read_bytes() + certificates.client.ca.read_bytes())
    client = client_tls(replace(certificates.client, ca=both)).engine()
    server = server_tls(replace(certificates.stranger, ca=both)).engine()
    assert shake_hands(client, server) == ("", "")


def test_a_certificate_of_somebody_else_is_named(certificates: Certificates) -> None:
    tls = server_tls(certificates.store)
    tls.require(Identity.store(1, 0))
    with pytest.raises(TlsError, match=r"is the certificate of store 1 node 0 .*, but this is store 1 node 2"):
        tls.require(Identity.store(1, 2))
