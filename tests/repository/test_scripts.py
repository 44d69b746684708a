"""The scripts in contrib/, as far as that goes without installing anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("contrib/bootstrap", "contrib/clean", ".ci/run")


def run(command: list[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_is_a_posix_shell_script_that_can_be_executed(name: str) -> None:
    script = ROOT / name
    assert script.read_text().startswith("#!/bin/sh\n")
    assert os.access(script, os.X_OK)
    assert run(["sh", "-n", script]).stderr == ""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What bootstrap and clean look at, somewhere else."""
    for name in ("contrib/bootstrap", "contrib/clean", "contrib/constraints.txt", "setup.cfg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def stamp(checkout: Path, kind: str) -> None:
    """Make the checkout look as if bootstrap had finished there."""
    (checkout / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    script = (checkout / "contrib" / "bootstrap").read_text()
    function = script[script.index("wanted_state() {") : script.index("stamp_holds() {")]
    shell = f'cd "{checkout}"; root=$PWD; {function} wanted_state'
    (checkout / ".venv" / f"bootstrap.{kind}").write_text(run(["sh", "-c", shell]).stdout)


@pytest.mark.parametrize(("installed", "wanted"), [("runtime", "runtime"), ("dev", "dev"), ("dev", "runtime")])
def test_bootstrap_has_nothing_to_do_the_second_time(checkout: Path, installed: str, wanted: str) -> None:
    stamp(checkout, installed)
    result = run([checkout / "contrib" / "bootstrap", wanted], PATH="/usr/bin:/bin")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_bootstrap_installs_again_when_the_requirements_changed(checkout: Path) -> None:
    stamp(checkout, "dev")
    with (checkout / "setup.cfg").open("a") as file:
        file.write("# changed\n")
    # The interpreter named does not exist: as far as it gets without touching anything.
    result = run([checkout / "contrib" / "bootstrap", "dev"], PYTHON="/nonexistent/python")
    assert result.returncode == 1
    assert "PYTHON=/nonexistent/python is not a Python 3.10 or newer" in result.stderr


def test_bootstrap_without_root_names_the_command_to_run(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "cat", "sha256sum", "cut", "dirname", "mktemp", "env", "printf", "tail", "rm"):
        (tools / name).symlink_to(shutil.which(name) or "/bin/false")
    # A machine with apt-get but neither Python nor sudo, and a person who is not root.
    for name, body in {"id": "echo 1000", "apt-get": "exit 1"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    result = run([checkout / "contrib" / "bootstrap", "runtime"], PATH=str(tools), PYTHON="")
    assert result.returncode == 1
    assert "apt-get update && apt-get install -y python3 python3-venv python3-dev gcc" in result.stderr


def test_bootstrap_refuses_what_it_does_not_know(checkout: Path) -> None:
    result = run([checkout / "contrib" / "bootstrap", "everything"])
    assert (result.returncode, result.stderr) == (2, "usage: contrib/bootstrap [runtime|dev|docs]\n")


def test_clean_refuses_while_a_process_has_a_file_open(checkout: Path) -> None:
    data = checkout / "data" / "store.0"
    data.mkdir(parents=True)
    (data / "log.1").write_text("entries")
    with (data / "log.1").open() as file, subprocess.Popen(["sleep", "60"], stdin=file) as holder:
        result = run([checkout / "contrib" / "clean", "data"])
        holder.kill()
    assert result.returncode == 1
    assert f"{holder.pid} sleep 60" in result.stderr
    assert "make demo-stop" in result.stderr
    assert (data / "log.1").exists()


def test_clean_removes_only_its_folder(checkout: Path) -> None:
    for name in ("data", "data2", "logs"):
        (checkout / name).mkdir()
    # A neighbour whose name begins the same is somebody else's business.
    with subprocess.Popen(["sleep", "60"], cwd=checkout / "data2") as neighbour:
        result = run([checkout / "contrib" / "clean", "data"])
        neighbour.kill()
    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(path.name for path in checkout.iterdir() if path.name[:4] in {"data", "logs"}) == ["data2", "logs"]


@pytest.mark.parametrize("linked", ["the checkout", "the folder"])
def test_clean_sees_through_links_who_uses_what(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, linked: str
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    if linked == "the folder":
        (checkout / "data").symlink_to(elsewhere)
    else:
        (checkout / "data").mkdir()
        (elsewhere / "link").symlink_to(checkout)
    start = checkout if linked == "the folder" else elsewhere / "link"
    (start / "data" / "log.1").write_text("entries")
    clean = ["sh", "-c", 'cd "$0" && contrib/clean data', start]
    with (start / "data" / "log.1").open() as file, subprocess.Popen(["sleep", "60"], stdin=file) as holder:
        refused = run(clean)
        holder.kill()
    assert (refused.returncode, f"{holder.pid} sleep 60" in refused.stderr) == (1, True)
    assert (start / "data" / "log.1").exists()
    assert run(clean).returncode == 0
    assert not (start / "data" / "log.1").exists()
    assert (checkout / "data").is_symlink() == (linked == "the folder")


@pytest.mark.parametrize("folder", ["data", "logs"])
def test_clean_is_content_with_nothing(checkout: Path, folder: str) -> None:
    assert run([checkout / "contrib" / "clean", folder]).returncode == 0


def test_make_help_lists_every_target() -> None:
    listed = run(["make", "--no-print-directory", "-C", ROOT, "help"]).stdout
    makefile = (ROOT / "Makefile").read_text()
    targets = [line.removeprefix(".PHONY: ") for line in makefile.splitlines() if line.startswith(".PHONY: ")]
    assert {"demo", "demo-stop", "test", "lint", "bench", "docs", "clean-data", "clean-logs"} <= set(targets)
    assert [target for target in targets if f" {target} " not in listed.replace("\033[1m", " ")] == []
