"""What a command says when it cannot do what it was asked."""

from __future__ import annotations


class AdminError(Exception):
    """A command failed for a reason the person at the terminal can act on: what happened, then what to do."""


def sentence(error: BaseException) -> str:
    """Return what to print for a failure: the error's own words, or its kind when it has none."""
    text = str(error).strip()
    if isinstance(error, OSError) and error.strerror and not text.startswith("cannot"):
        subject = error.filename if error.filename is not None else ""
        text = f"{subject}: {error.strerror}" if subject else error.strerror
    return text or type(error).__name__


def is_explained(error: BaseException) -> bool:
    """Whether an error was made to be read by a person: anything else is a defect and is called one."""
    from google.protobuf.message import DecodeError

    from phxqueue.config import ConfigError
    from phxqueue.journal.errors import JournalError
    from phxqueue.lock.client.errors import LockError
    from phxqueue.net.address import AddressError
    from phxqueue.net.certs import CertificateFilesError
    from phxqueue.net.identity import IdentityError
    from phxqueue.net.status import RpcError
    from phxqueue.net.tls import TlsError
    from phxqueue.producer.errors import EnqueueError

    explained = (
        AdminError,
        AddressError,
        CertificateFilesError,
        ConfigError,
        EnqueueError,
        IdentityError,
        LockError,
        JournalError,
        OSError,
        RpcError,
        TlsError,
    )
    return isinstance(error, explained) and not isinstance(error, DecodeError)
