"""Small checks that many sections share. Each adds its findings to a document and says whether there was one."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Hashable, Iterable

from phxqueue.config.problems import shown_path
from phxqueue.config.syntax import Document, FieldPath, show

_SHOWN_IDS = 20


def is_loopback(host: str) -> bool:
    """Whether what is sent to a host surely stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_unspecified(host: str) -> bool:
    """0.0.0.0 or ::, where one can listen but which nobody can dial."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


class Unique:
    """Values that may occur once, over one or several files."""

    def __init__(self, remedy: str = "") -> None:
        self._first: dict[Hashable, tuple[Document, FieldPath]] = {}
        self._remedy = remedy

    def add(self, document: Document, path: FieldPath, value: Hashable, shown: str = "") -> bool:
        """False, and a finding at `path`, when the value was there before."""
        if value not in self._first:
            self._first[value] = (document, path)
            return True
        other, first = self._first[value]
        where = f"line {other.line(first)}"
        if other.file != document.file:
            where += f" of {shown_path(other.file)}"
        document.error(path, f"found {shown or show(value)}, given already in {where}", remedy=self._remedy)
        return False


def check_unique(document: Document, path: FieldPath, values: Iterable[Hashable]) -> None:
    """No value of a list twice."""
    seen = Unique("remove one")
    for index, value in enumerate(values):
        seen.add(document, (*path, index), value)


def check_known(document: Document, path: FieldPath, value: int, known: Collection[int], what: str) -> bool:
    """A reference to something that exists."""
    if value in known:
        return True
    document.error(path, f"found {value}", f"{what}: {list_ids(known)}")
    return False


def list_ids(ids: Collection[int]) -> str:
    shown = ", ".join(str(number) for number in sorted(ids)[:_SHOWN_IDS])
    return (shown or "none") + (", ..." if len(ids) > _SHOWN_IDS else "")


def check_at_most(document: Document, path: FieldPath, value: float, limit: float, why: str) -> None:
    if value > limit:
        document.error(path, f"found {value:.15g}", f"at most {limit:.15g}", why)


def check_at_least(document: Document, path: FieldPath, value: float, limit: float, why: str) -> None:
    if value < limit:
        document.error(path, f"found {value:.15g}", f"at least {limit:.15g}", why)
