from __future__ import annotations

import pytest

from phxqueue.net.identity import ANONYMOUS, Identity, IdentityError, Role


@pytest.mark.parametrize(
    ("uri", "identity", "text"),
    [
        ("phxqueue://store/1/0", Identity.store(1, 0), "store 1 node 0"),
        ("phxqueue://lock/3/2", Identity(Role.LOCK, "3", 2), "lock 3 node 2"),
        ("phxqueue://consumer/mail-7", Identity(Role.CONSUMER, "mail-7"), "consumer mail-7"),
        ("phxqueue://client/anna.b", Identity(Role.CLIENT, "anna.b"), "client anna.b"),
        ("phxqueue://admin/otto", Identity(Role.ADMIN, "otto"), "admin otto"),
        ("phxqueue://scheduler/s_1", Identity(Role.SCHEDULER, "s_1"), "scheduler s_1"),
    ],
)
def test_uri_and_back(uri: str, identity: Identity, text: str) -> None:
    assert Identity.parse(uri) == identity
    assert identity.uri == uri
    assert str(identity) == text


@pytest.mark.parametrize(
    "uri",
    [
        "https://store/1/0",
        "phxqueue://",
        "phxqueue://store/1",
        "phxqueue://store/1/x",
        "phxqueue://store/1/0/0",
        "phxqueue://store//0",
        "phxqueue://store/1/9999999999",
        "phxqueue://client/",
        "phxqueue://client/a/b",
        "phxqueue://client/a b",
        "phxqueue://client/" + "x" * 65,
        "phxqueue://anonymous/x",
        "phxqueue://king/x",
    ],
)
def test_what_is_no_identity(uri: str) -> None:
    with pytest.raises(IdentityError):
        Identity.parse(uri)


def test_make_checks_nodes() -> None:
    with pytest.raises(IdentityError, match="needs node id"):
        Identity.make(Role.STORE, "1")
    with pytest.raises(IdentityError, match="has no node id"):
        Identity.make(Role.CLIENT, "anna", 1)
    with pytest.raises(IdentityError, match="negative"):
        Identity.make(Role.STORE, "1", -1)
    assert str(ANONYMOUS) == "anonymous"
