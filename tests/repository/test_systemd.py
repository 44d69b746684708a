"""The units, judged by systemd itself where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "contrib" / "systemd"
NAMES = (
    "phxqueue-store@.service",
    "phxqueue-lock@.service",
    "phxqueue-scheduler@.service",
    "phxqueue-consumer@.service",
)
MAX_EXPOSURE = 15
"""In tenths of systemd's scale of 10: what contrib/systemd/README.md promises, with room for other versions."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def units(tmp_path: Path) -> dict[str, Path]:
    """The units with the program where it is on this machine: verify looks whether it can be executed."""
    twistd = Path(sys.executable).with_name("twistd")
    for name in NAMES:
        text = (UNITS / name).read_text()
        assert text.count("/opt/phxqueue/bin/twistd") == 1
        (tmp_path / name).write_text(text.replace("/opt/phxqueue/bin/twistd", str(twistd)))
    return {name: tmp_path / name for name in NAMES}


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_verify_has_no_complaint(units: dict[str, Path], name: str) -> None:
    run = subprocess.run(["systemd-analyze", "verify", "--man=no", units[name]], capture_output=True, text=True)
    # It also tells what it thinks of other units that happen to be on this machine.
    about_ours = [line for line in run.stderr.splitlines() if "phxqueue" in line]
    assert (run.returncode, about_ours) == (0, [])


@needs_systemd
def test_verify_would_complain(units: dict[str, Path]) -> None:
    unit = units[NAMES[0]]
    unit.write_text(unit.read_text().replace("Restart=on-failure", "Restart=on-falure"))
    run = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert "on-falure" in run.stderr


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_exposure_is_low(units: dict[str, Path], name: str) -> None:
    command = [
        "systemd-analyze",
        "security",
        "--offline=true",
        f"--threshold={MAX_EXPOSURE}",
        "--no-pager",
        units[name],
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    if "unrecognized option" in run.stderr:
        pytest.skip("this systemd-analyze cannot look at units offline")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", NAMES)
def test_writable_executable_memory_is_not_denied(name: str) -> None:
    # The TLS library's Python binding makes its callbacks there: with the denial no connection would come about.
    assert not re.search(r"^MemoryDenyWriteExecute=", (UNITS / name).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_the_unit_starts_the_role_it_is_named_after(name: str) -> None:
    role = name.removesuffix("@.service").removeprefix("phxqueue-")
    [command] = re.findall(r"^ExecStart=(.*)$", (UNITS / name).read_text(), re.MULTILINE)
    assert command.split()[1:] == [
        "--nodaemon",
        "--pidfile=",
        f"phxqueue-{role}",
        "-c",
        f"/etc/phxqueue/{role}.%i.conf",
    ]
