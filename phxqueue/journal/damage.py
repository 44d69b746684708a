"""Which entries lie on pages that Berkeley DB cannot read any more."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

from phxqueue.journal import bdb, layout


class Damage:
    """The keys of such entries, as far as they have been met. Used by several threads: it only grows."""

    def __init__(self, keys: Iterable[bytes] = (), most: int = 0) -> None:
        """`most`: more of them are a failing disk, and the node stops."""
        self._keys = set(keys)
        self._most = most
        self._log = Logger()

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def note(self, key: bytes, error: Exception) -> None:
        """Remember that reading `key` failed with `error`. Raises it when it is worse than one bad page."""
        if not bdb.is_damaged(error):
            raise error
        if key in self._keys:
            return
        if len(self._keys) >= self._most:
            raise error
        self._keys.add(key)
        group, instance = layout.split_entry_key(key)
        self._log.error(
            "entry {instance} of group {group} lies on a damaged page of the database: {reason}",
            group=group,
            instance=instance,
            reason=bdb.explain(error),
        )
