"""Who may call what."""

from __future__ import annotations

from typing import Any

import pytest

from phxqueue.net.access import RESTRICTED, authorize
from phxqueue.net.identity import ANONYMOUS, Identity, Role
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.methods import Method

OPERATOR = Identity(Role.ADMIN, "otto")
CLIENT = Identity(Role.CLIENT, "anna")
PEERS = [
    OPERATOR,
    CLIENT,
    ANONYMOUS,
    Identity.store(1, 0),
    Identity(Role.LOCK, "1", 0),
    Identity(Role.CONSUMER, "c"),
    Identity(Role.SCHEDULER, "s"),
]
ALL = [one for one in vars(methods).values() if isinstance(one, Method)]
#: Whatever a new method does, somebody has to think about it here.
ANYBODY = {
    "Add", "Get", "CancelDelayed", "ListDelayed", "DecideHalf", "ListHalves", "ShowHalf", "PollCheckBacks",
    "GetSettings", "ListReplays", "ListGroups", "ReportProduced", "GetLedger", "VerifyRange",
    "GetLockInfo", "AcquireLock", "RenewLock", "RenewLocks", "ReleaseLock", "GetString", "SetString", "DeleteString",
    "Watch", "ListKeys", "GetShare", "Report", "Shares", "SchedulerStatus", "NodeStatus", "Members",
}  # fmt: skip
#: On a port of their own, which only members of the replica set get into.
PAXOS_PORT = {"PeerHello", "PeerFrame", "CheckpointOpen", "CheckpointRead", "LogRead"}


def admitted(peer: Identity, method: Method[Any, Any]) -> bool:
    try:
        authorize(peer, method, method.request())
    except RpcError:
        return False
    return True


def test_who_is_refused_is_told_what_it_takes() -> None:
    with pytest.raises(RpcError, match=r"client anna may not call Replay: .*phxqueue certs issue admin") as caught:
        authorize(CLIENT, methods.REPLAY, methods.REPLAY.request())
    assert (caught.value.status, caught.value.maybe_executed) == (Status.PERMISSION_DENIED, False)


def test_every_method_is_somebodys() -> None:
    restricted = {method.name for method in ALL if method.number in RESTRICTED}
    assert len(restricted) == len(RESTRICTED)
    assert restricted | ANYBODY | PAXOS_PORT == {method.name for method in ALL}
    assert not restricted & ANYBODY


@pytest.mark.parametrize("peer", PEERS, ids=str)
def test_what_is_anybodys(peer: Identity) -> None:
    assert all(admitted(peer, method) for method in ALL if method.name in ANYBODY)


@pytest.mark.parametrize("peer", PEERS, ids=str)
def test_what_changes_the_cluster_takes_an_operator(peer: Identity) -> None:
    is_operator = peer in (OPERATOR, ANONYMOUS)
    for method in ALL:
        if method.number in RESTRICTED:
            handed_over = method in (methods.CHANGE_SHARE, methods.EXPORT_KEYS) and peer.role is Role.LOCK
            assert admitted(peer, method) is (is_operator or handed_over), method.name
