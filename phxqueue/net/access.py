"""Who may call what: what changes or copies the cluster itself is an operator's, everything else any certificate's.

The port decides before a handler sees the request, by the identity that the caller's certificate proves. On a plain
connection (TLS is off, loopback only) nobody proves anything: everybody there is taken for an operator.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from phxqueue.net.identity import Identity, Role
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.methods import Method

_OPERATORS = frozenset({Role.ADMIN, Role.ANONYMOUS})
#: Operators, and the nodes of lock groups, which hand keys over to each other.
_OPERATORS_AND_LOCKS = _OPERATORS | {Role.LOCK}

#: By method number, the roles that may call it; whatever is not here anybody may who has got as far as calling.
RESTRICTED: dict[int, frozenset[Role]] = {
    **{
        method.number: _OPERATORS
        for method in (
            methods.SET_SETTING,
            methods.REPLAY,
            methods.CREATE_GROUP,
            methods.DELETE_GROUP,
            methods.CLEAR_ALARM,
            methods.CHANGE_MEMBER,
            methods.TRANSFER_MASTER,
            methods.HOLD_MASTER,
            methods.BACKUP_OPEN,
            methods.BACKUP_READ,
            methods.BACKUP_LOG,
        )
    },
    **{method.number: _OPERATORS_AND_LOCKS for method in (methods.CHANGE_SHARE, methods.EXPORT_KEYS)},
}


def authorize(peer: Identity, method: Method[Any, Any], request: Message) -> None:
    """Let a call pass. Raises RpcError (PERMISSION_DENIED), saying what it takes."""
    roles = RESTRICTED.get(method.number)
    if roles is not None and peer.role not in roles:
        raise RpcError(
            Status.PERMISSION_DENIED,
            f"{peer} may not call {method.name}: that takes an operator's certificate (`phxqueue certs issue admin "
            "NAME`; commands use admin.pem of the cluster's certificates when they can read it and its key)",
            maybe_executed=False,
        )
