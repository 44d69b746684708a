"""Files made by a program are what that program makes of today's sources."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_protobuf_modules_are_what_their_sources_give() -> None:
    run = subprocess.run(
        [sys.executable, "contrib/generate_proto.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_changed_module_is_noticed(tmp_path: Path) -> None:
    # The check itself, on a copy in which one generated module was edited and one has lost its source.
    for name in ("contrib/generate_proto.py", "setup.cfg"):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    proto = tmp_path / "phxqueue" / "proto"
    proto.mkdir(parents=True)
    for path in (ROOT / "phxqueue" / "proto").iterdir():
        if path.is_file():
            (proto / path.name).write_bytes(path.read_bytes())
    with (proto / "item_pb2.py").open("a") as module:
        module.write("# edited\n")
    (proto / "gone_pb2.pyi").write_text("")
    run = subprocess.run(
        [sys.executable, "contrib/generate_proto.py", "--check"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stdout.splitlines() == [
        "phxqueue/proto/item_pb2.py is not what its source gives: run make proto",
        "phxqueue/proto/gone_pb2.pyi has no source: run make proto",
    ]
