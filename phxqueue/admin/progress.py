"""A line that says how far a long command is: rewritten in place on a terminal, not there at all otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TextIO

from twisted.internet.task import LoopingCall

INTERVAL_S = 0.2
_CLEAR = "\r\x1b[K"


class Progress:
    """Shows ``text()`` on stderr several times a second while the ``with`` block runs.

    Args:
        text: makes the line; called only when it is shown.
        interval_s: how often.
    """

    def __init__(
        self, reactor: Any, text: Callable[[], str], *, interval_s: float = INTERVAL_S, stream: TextIO | None = None
    ) -> None:
        self._stream = stream or sys.stderr
        self._text = text
        self._shown = False
        self._loop = LoopingCall(self._show)
        self._loop.clock = reactor
        self._interval_s = interval_s

    def __enter__(self) -> Progress:
        if self._stream.isatty():
            self._loop.start(self._interval_s, now=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop.running:
            self._loop.stop()
        self._clear()

    def say(self, text: str) -> None:
        """Print a line that stays, above the one that changes."""
        self._clear()
        print(text, file=self._stream, flush=True)

    def _show(self) -> None:
        self._stream.write(_CLEAR + self._text())
        self._stream.flush()
        self._shown = True

    def _clear(self) -> None:
        if self._shown:
            self._stream.write(_CLEAR)
            self._stream.flush()
            self._shown = False
