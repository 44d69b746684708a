"""Conversations of a whole group, told in full: read the files in transcripts/ as stories.

When a change of the core changes what is said, and that is meant, write the transcripts anew and read the difference:

    PHXQUEUE_REWRITE=1 python -m pytest tests/paxos/test_transcripts.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.paxos.script import rerun

FILES = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


def test_there_are_transcripts() -> None:
    assert len(FILES) > 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    expected = path.read_text()
    happened = rerun(expected)
    if os.environ.get("PHXQUEUE_REWRITE"):
        path.write_text(happened)
    else:
        assert happened == expected
