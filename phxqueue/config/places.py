"""Where a path in a configuration file points to.

A relative path to another configuration file, or to certificates, is tried beside the file that names it, then
one directory up (the original writes ``etc/topicconfig.conf`` in ``etc/globalconfig.conf``), then from the
working directory; the first that exists counts.
"""

from __future__ import annotations

import os
from pathlib import Path


def candidates(value: str, named_in: Path) -> list[Path]:
    """The places a path is tried at, absolute, in order. `named_in` is the absolute path of the file."""
    here = named_in.parent
    places = [Path(os.path.abspath(base / value)) for base in (here, here.parent, Path.cwd())]
    return list(dict.fromkeys(places))


def find(value: str, named_in: Path) -> Path | None:
    return next((place for place in candidates(value, named_in) if place.exists()), None)


def find_or_expect(value: str, named_in: Path) -> Path:
    """The place that exists, else the one where it would make sense to create it."""
    places = candidates(value, named_in)
    return next(
        (place for place in places if place.exists()),
        next((place for place in places if place.parent.is_dir()), places[0]),
    )
