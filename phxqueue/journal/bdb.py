"""The seam to Berkeley DB: the only module that knows which Python binding there is.

`bsddb3` and `berkeleydb` are by the same author and have the same interface; the first is preferred where it is
installed, the second is its maintained successor. Both call the C library with the interpreter lock released.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
from collections.abc import Callable
from typing import Any

BINDINGS = ("bsddb3", "berkeleydb")
"""Names of the bindings, in order of preference."""

DAMAGED_PAGE = "pgin failed"
"""What Berkeley DB says when the checksum of a page it has read does not fit."""


def load(name: str | None = None) -> Any:
    """Return the `db` module of the binding called `name`, or of the first one that is installed.

    Raises ImportError naming what to install.
    """
    for candidate in BINDINGS if name is None else (name,):
        try:
            return importlib.import_module(f"{candidate}.db")
        except ModuleNotFoundError as error:
            if error.name != candidate:
                raise
    wanted = " or ".join(BINDINGS if name is None else (name,))
    raise ImportError(f"no binding of Berkeley DB: install {wanted} (and the library: libdb5.3-dev to build it)")


def count_failed_writes(binding: Any, environment: Any) -> Callable[[], int]:
    """Count the writes that fail in this environment from now on; returns what tells their number.

    An environment that could not be opened has forgotten why: the last message is about something else.
    """
    failed: list[int] = []

    def notice(_environment: Any, event: int, _information: object) -> None:
        if event == binding.DB_EVENT_WRITE_FAILED and not failed:
            failed.append(event)

    environment.set_event_notify(notice)
    return lambda: len(failed)


def log_message(environment: Any, message: bytes, transaction: Any) -> None:
    """Put a remark into the log, as a record of this transaction. `bsddb3` wants it as text, `berkeleydb` as bytes."""
    try:
        environment.log_printf(message, transaction)
    except TypeError:
        environment.log_printf(message.decode(), transaction)


def is_damaged(error: BaseException) -> bool:
    """Whether this error says that one page cannot be read (checksum or medium), and nothing worse."""
    if DAMAGED_PAGE in str(error):
        return True
    return bool(error.args) and error.args[0] == errno.EIO and " read: " in str(error)


def is_full(error: BaseException) -> bool:
    """Whether this error says that the file system is full."""
    return bool(error.args) and error.args[0] == errno.ENOSPC


def explain(error: BaseException) -> str:
    """Return Berkeley DB's own words, without the error number's tuple around them."""
    return str(error.args[1]) if len(error.args) > 1 else str(error) or type(error).__name__


def describe(error: BaseException) -> str:
    """Say for the log and for an operator why writing failed."""
    if is_full(error):
        return f"the disk is full: {explain(error)}"
    return f"{type(error).__name__}: {explain(error)}"


def abandon(*handles: object) -> None:
    """Never finalise these handles.

    Their finalisers close the environment, which writes and flushes what is still in memory. After a failed write
    or flush that is exactly what must not happen: the next start recovers from what is really on disk.
    """
    for handle in handles:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))
