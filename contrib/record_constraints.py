"""Records the versions installed in this environment in ``contrib/constraints.txt`` (``make constraints``).

Only what the project asks for, directly or not, is recorded: other things that happen to be installed are not its own.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEAD = """\
# The versions this tree was last tried with, used by contrib/bootstrap (never by an installed package).
# `make constraints` writes it anew. On Python 3.10 some of them do not exist: there pip chooses.
"""


BUILD_TOOLS = {"pip", "setuptools"}
"""Not the project's to choose: they come with the environment."""


def required(root: str, extras: tuple[str, ...]) -> set[str]:
    """Every installed distribution that ``root`` with these extras needs, directly or not."""
    found: set[str] = set()
    ahead = [(root, extras)]
    while ahead:
        name, of_extras = ahead.pop()
        for requirement in map(Requirement, metadata.requires(name) or []):
            marker = requirement.marker
            needed = marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *of_extras))
            wanted = canonicalize_name(requirement.name)
            if needed and wanted not in found:
                found.add(wanted)
                ahead.append((wanted, tuple(requirement.extras)))
    return found - BUILD_TOOLS


def main() -> None:
    """Write the file."""
    lines = [
        f'{name}=={metadata.version(name)}; python_version >= "3.11"\n'
        for name in sorted(required("phxqueue", ("dev", "docs")))
    ]
    Path(__file__).with_name("constraints.txt").write_text(HEAD + "".join(lines))


if __name__ == "__main__":
    main()
