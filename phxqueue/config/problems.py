"""What is wrong with a configuration: single problems, the report of all of them, and the exceptions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


def shown_path(path: Path) -> str:
    """A path as a person at this working directory would write it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # elsewhere, or the working directory is gone
        return str(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One finding: where, what stands there, what may stand there, and what to do. Empty parts are left out."""

    file: Path
    line: int = 0  # from 1; 0: the file as a whole
    field: str = ""  # "stores[0].addrs[1].port"
    found: str
    allowed: str = ""
    remedy: str = ""
    warning: bool = False

    def __str__(self) -> str:
        place = shown_path(self.file) + (f":{self.line}" if self.line else "")
        parts = [f"{place}: " + (f"{self.field}: " if self.field else "") + self.found]
        if self.allowed:
            parts.append(f"allowed: {self.allowed}")
        if self.remedy:
            parts.append(self.remedy)
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Report:
    """All findings about all files looked at, in the order of files and lines."""

    problems: tuple[Problem, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if not problem.warning)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.warning)

    @property
    def ok(self) -> bool:
        """Whether a snapshot can be made: there may be warnings."""
        return not self.errors


class ConfigError(Exception):
    """The configuration cannot be used; `report` lists every reason."""

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report or Report()


class UnknownIdError(ConfigError, KeyError):
    """A lookup of something the configuration does not have."""

    def __init__(self, what: str, wanted: object, known: Iterable[object]) -> None:
        names = [str(name) for name in sorted(known, key=lambda name: (not isinstance(name, int), name))]
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        super().__init__(f"{what} {wanted} is not configured (there is {shown or 'none'})")

    __str__ = Exception.__str__  # KeyError would show the text in quotes
