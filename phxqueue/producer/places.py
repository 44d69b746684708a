"""Names of things by the place where they lie: numbers in a row, as text "1-17-42". Pure."""

from __future__ import annotations

from collections.abc import Sequence


def read_place(text: str, bits: Sequence[int], what: str) -> list[int]:
    """The numbers of a text.

    Args:
        bits: how large each number may be.
        what: it is the name of, for the message, with an example.

    Raises:
        ValueError: it is no such text.
    """
    parts = text.split("-")
    if len(parts) == len(bits) and all(part.isascii() and part.isdigit() and len(part) <= 20 for part in parts):
        numbers = [int(part) for part in parts]
        if all(number >> size == 0 for number, size in zip(numbers, bits, strict=True)):
            return numbers
    raise ValueError(f"{text!r} is not the id of {what}")
