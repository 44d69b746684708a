"""How limits and pauses are written down among a topic's settings in the store. Pure.

limit/PUB/GROUP/HANDLE/QUEUE_INFO = items per minute (0: no limit, whatever the files say); -1 as in freq_infos[]
pause/GROUP/PUB = 1
"""

from __future__ import annotations

from collections.abc import Mapping

from phxqueue.consumer.limits import Limit, Throttle


def limit_key(limit: Limit) -> str:
    """The key of a limit; its value is `limit.per_minute`."""
    return f"limit/{limit.pub_id}/{limit.consumer_group_id}/{limit.handle_id}/{limit.queue_info_id}"


def pause_key(consumer_group_id: int, pub_id: int) -> str:
    """The key of a pause."""
    return f"pause/{consumer_group_id}/{pub_id}"


def read_throttle(settings: Mapping[str, bytes]) -> tuple[Throttle, list[str]]:
    """The limits and pauses in a topic's settings, and the keys of such that cannot be understood."""
    limits: list[Limit] = []
    paused: set[tuple[int, int]] = set()
    wrong: list[str] = []
    for key, value in sorted(settings.items()):
        kind, *ids = key.split("/")
        if kind not in ("limit", "pause"):
            continue
        try:
            numbers = [int(part) for part in ids]
            if kind == "limit":
                pub_id, group_id, handle_id, info_id = numbers
                limits.append(Limit(pub_id, group_id, handle_id, info_id, max(0, int(value))))
            else:
                group_id, pub_id = numbers
                paused.add((group_id, pub_id))
        except ValueError:
            wrong.append(key)
    return Throttle(tuple(limits), frozenset(paused)), wrong
