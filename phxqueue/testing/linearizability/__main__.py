"""``python -m phxqueue.testing.linearizability FILE ...``: check recorded histories, all files together.

The exit status is 0 when everything is linearizable, 1 when something is not, 2 when something is undecided or a file
cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from phxqueue.testing.linearizability.check import check_history
from phxqueue.testing.linearizability.history import HistoryError, read_history
from phxqueue.testing.linearizability.search import MAX_STATES, Verdict

STATUS = {Verdict.LINEARIZABLE: 0, Verdict.NOT_LINEARIZABLE: 1, Verdict.UNDECIDED: 2}


def main(arguments: list[str] | None = None) -> int:
    """Check the files named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m phxqueue.testing.linearizability", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="histories, as JSON lines")
    parser.add_argument("--states", type=int, default=MAX_STATES, help="bound per object (default %(default)s)")
    chosen = parser.parse_args(arguments)
    operations = []
    for path in chosen.files:
        try:
            with path.open(encoding="utf-8") as lines:
                operations += list(read_history(lines))
        except (OSError, HistoryError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
    try:
        report = check_history(operations, max_states=chosen.states)
    except HistoryError as error:
        print(error, file=sys.stderr)
        return 2
    print(report)
    return STATUS[report.verdict]


if __name__ == "__main__":
    sys.exit(main())
