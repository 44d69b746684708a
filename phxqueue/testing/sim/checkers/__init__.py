"""Invariants, one per file. Each raises :class:`Violation` at the moment it is broken."""

from __future__ import annotations


class Violation(AssertionError):
    """An invariant of the system was broken; the message says which, where and by whom."""
