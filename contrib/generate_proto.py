"""Generates ``phxqueue/proto/*_pb2.py`` and ``*_pb2.pyi`` from the ``.proto`` files; ``--check`` only compares.

The tools are pinned in setup.cfg (extra ``dev``), so the same sources give the same bytes everywhere.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import metadata
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = Path("phxqueue/proto")
TOOLS = ("grpcio-tools", "mypy-protobuf")


def check_tools() -> None:
    """Refuse to generate with other versions than setup.cfg names.

    Raises:
        SystemExit: naming the tool, its version and the one wanted.
    """
    pins = [line.strip() for line in (ROOT / "setup.cfg").read_text().splitlines()]
    for tool in TOOLS:
        installed = f"{tool}=={metadata.version(tool)}"
        if installed not in pins:
            wanted = next(pin for pin in pins if pin.startswith(f"{tool}=="))
            raise SystemExit(f"installed is {installed}, setup.cfg wants {wanted}: run contrib/bootstrap dev")


def generate(output: Path) -> list[Path]:
    """Write the modules below ``output``; returns their paths relative to it."""
    sources = sorted((ROOT / PROTO).glob("*.proto"))
    plugin = Path(sys.executable).with_name("protoc-gen-mypy")
    status = protoc.main(
        [
            "protoc",
            f"--plugin=protoc-gen-mypy={plugin}",
            f"--proto_path={ROOT}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--python_out={output}",
            f"--mypy_out={output}",
            *map(str, sources),
        ]
    )
    if status != 0:
        raise SystemExit(f"protoc failed with status {status}")
    return [PROTO / f"{source.stem}_pb2{suffix}" for source in sources for suffix in (".py", ".pyi")]


def differences() -> list[str]:
    """What ``generate`` would change: one sentence per file."""
    with tempfile.TemporaryDirectory() as name:
        output = Path(name)
        generated = generate(output)
        changed = [
            f"{path} is not what its source gives"
            for path in generated
            if not (ROOT / path).exists() or (ROOT / path).read_bytes() != (output / path).read_bytes()
        ]
    present = {path.relative_to(ROOT) for path in (ROOT / PROTO).glob("*_pb2.py*")}
    return changed + [f"{path} has no source" for path in sorted(present - set(generated))]


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing; exit status 1 when they differ")
    check = parser.parse_args().check
    check_tools()
    if not check:
        generate(ROOT)
        return 0
    found = differences()
    for sentence in found:
        print(f"{sentence}: run make proto")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
