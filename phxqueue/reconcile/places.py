"""Where in the queues the items of an account lie: what somebody who looks for a difference wants to see. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection

from phxqueue.reconcile.accounts import Key
from phxqueue.reconcile.ledger import Ledger

#: Told of one account.
MOST_PLACES = 10

Place = tuple[int, int, int]
"""(queue id, first cursor, one past the last)"""


def places_of(ledger: Ledger, keys: Collection[Key], end_cursor: Callable[[int], int]) -> dict[Key, list[Place]]:
    """What is stored of the minute, the pub and any of the groups of each account, from whomever it came.

    Args:
        end_cursor: of a queue.
    """
    found: dict[Key, list[Place]] = {key: [] for key in keys}
    alike: dict[tuple[int, int], list[Key]] = {}
    for key in found:
        alike.setdefault((key[1], key[2]), []).append(key)
    minutes = {minute for minute, _ in alike}
    for queue_id, runs in sorted(ledger.runs.items()) if minutes else ():
        for start, stop, minute, pub_id, mask in runs.of_minutes(minutes, end_cursor(queue_id)):
            for key in alike.get((minute, pub_id), ()):
                if key[3] & mask and stop > start and len(found[key]) < MOST_PLACES:
                    found[key].append((queue_id, start, stop))
    return found
