"""The formats of a store's checkpoints: which is written when. Pure.

A format has everything of those below it. The newest that is needed is written and no newer one, so that a node which
still runs an earlier program can take our checkpoints until a command was applied that it does not know either.
"""

from __future__ import annotations

from phxqueue.store.columns import ColumnReader, CorruptCheckpoint

#: The first has no place for delayed batches.
FIRST_FORMAT = 2
TIMER_FORMAT = 3
#: Since fencing tokens.
FENCE_FORMAT = 4
SETTINGS_FORMAT = 5
REPLAY_FORMAT = 7
#: Since consumer groups that come and go at run time.
GROUPS_FORMAT = 8
#: Since idempotency keys.
KEYS_FORMAT = 9
LEDGER_FORMAT = 10
RELOCATION_FORMAT = 11
#: Since the books know of half messages and of groups created at run time.
WHOLE_FORMAT = 12
#: Since producers vouch for sequences.
VOUCH_FORMAT = 15
#: Since what they vouched for is kept.
KEPT_FORMAT = 16
#: These are needed from a command of the version with the same number on; the newest first.
_FORMAT_OF_VERSION = (KEYS_FORMAT, GROUPS_FORMAT, REPLAY_FORMAT, SETTINGS_FORMAT, FENCE_FORMAT, TIMER_FORMAT)
_OF_THE_BOOKS = (LEDGER_FORMAT, WHOLE_FORMAT, VOUCH_FORMAT, KEPT_FORMAT)
_KNOWN = frozenset((FIRST_FORMAT, *_FORMAT_OF_VERSION, RELOCATION_FORMAT, *_OF_THE_BOOKS))


def format_of(version: int, *, ledger: bool, whole: bool, relocated: bool, vouched: bool, kept: bool) -> int:
    """The format of a state of which commands up to this version were applied.

    Args:
        ledger: whether the books are open.
        whole: whether they are whole.
        relocated: whether items were written again.
        vouched: whether producers vouched for sequences.
        kept: whether what they vouched for is kept.
    """
    if kept:
        return KEPT_FORMAT
    if vouched:
        return VOUCH_FORMAT
    if whole:
        return WHOLE_FORMAT
    if relocated:
        return RELOCATION_FORMAT
    if ledger:
        return LEDGER_FORMAT
    return next((form for form in _FORMAT_OF_VERSION if version >= form), FIRST_FORMAT)


def read_format(source: ColumnReader, what: str) -> int:
    """Read which format follows; raises CorruptCheckpoint for one that this program does not know."""
    form = source.u16()
    if form not in _KNOWN:
        raise CorruptCheckpoint(f"{what} has format {form}; this program reads formats up to {max(_KNOWN)}")
    return form
