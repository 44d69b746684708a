"""Plain tables for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1, indent: int = 2) -> list[str]:
    """Return aligned lines: the first `left` columns to the left, numbers to the right, two spaces between."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for row in cells:
        aligned = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((" " * indent + "  ".join(aligned)).rstrip())
    return lines


def size(count: float) -> str:
    """Return a number of bytes for people: 512 B, 1.5 KiB, 79 GiB."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = 0
    while count >= 1024 and power < len(units) - 1:
        count /= 1024
        power += 1
    return f"{count:.{0 if power == 0 or count >= 10 else 1}f} {units[power]}"


def age(seconds: float) -> str:
    """Return a length of time for people, in its two largest units: 4.2 s, 3 min 5 s, 2 d 4 h."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = int(seconds)
    for length, unit, part, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= length:
            return f"{whole // length} {unit} {whole % length // part} {small}"
    raise AssertionError("unreachable")
