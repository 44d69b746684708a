"""The client of the lock service.

    from phxqueue.lock.client import LockClient

    locks = await LockClient.connect("etc/globalconfig.conf", topic="test")
    async with locks.lock("reports", lease=30) as held:
        await write_reports(fencing_token=held.token)
    await locks.close()

docs/api.md is written for its users. How it is made:

- pure: `lease` (until when a holder may believe), `routes` (whom to ask about a key), `values`;
- on the reactor: `calls` (repeated, made once, or waiting), `acquiring` (one acquisition), `rounds` and `renewing` (of
  many locks at one time, in one call), `holding` (one lock that is held: renewals and the end), `held` (what the
  application has in its hands), `client` (the LockClient), `connecting`.

It knows the configuration, the wire vocabulary, the placement of keys and the master-routing client, and nothing of how
a lock node works.
"""

from __future__ import annotations

from phxqueue.lock.client.client import LockClient
from phxqueue.lock.client.errors import (
    ClientClosed,
    InvalidRequest,
    LockError,
    LockLost,
    LockTimeout,
    NoLockGroup,
    NotHeld,
    NotPermitted,
    OutcomeUnknown,
    Overloaded,
    Refused,
    TooManyLocks,
    Unavailable,
    UnknownTopic,
    VersionMismatch,
)
from phxqueue.lock.client.held import Held, LockContext
from phxqueue.lock.client.settings import LockClientSettings
from phxqueue.lock.client.values import LockState, StringValue

__all__ = [
    "ClientClosed",
    "Held",
    "InvalidRequest",
    "LockClient",
    "LockClientSettings",
    "LockContext",
    "LockError",
    "LockLost",
    "LockState",
    "LockTimeout",
    "NoLockGroup",
    "NotHeld",
    "NotPermitted",
    "OutcomeUnknown",
    "Overloaded",
    "Refused",
    "StringValue",
    "TooManyLocks",
    "Unavailable",
    "UnknownTopic",
    "VersionMismatch",
]
