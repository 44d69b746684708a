"""The command line itself: help without imports, options before and after the command, failures as sentences."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from phxqueue.admin import edge
from phxqueue.admin.context import ClusterContext
from phxqueue.admin.edge import Interrupted
from phxqueue.admin.errors import AdminError
from phxqueue.admin.main import COMMANDS, main
from phxqueue.net.status import RpcError, Status
from tests.admin.conftest import Invoke

REPOSITORY = Path(__file__).resolve().parents[2]


def raises(error: BaseException) -> Any:
    def run(_: Any) -> None:
        raise error

    return run


def test_every_command_of_the_table_exists_and_explains_itself(invoke: Invoke) -> None:
    for name in COMMANDS:
        result = invoke(name, "--help")
        assert result.exit_code == 0, result.output
        assert f"phxqueue {name}" in result.output or f"main {name}" in result.output


def test_help_imports_neither_the_reactor_nor_the_libraries() -> None:
    script = (
        "import sys; from phxqueue.admin.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('twisted.internet', 'pydantic', 'google.protobuf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.endswith("[]\n"), done.stdout


def test_an_unknown_command(invoke: Invoke) -> None:
    result = invoke("ehco")
    assert result.exit_code == 2
    assert "No such command 'ehco'" in result.output


@pytest.mark.parametrize(
    "error",
    [
        AdminError("nothing works; do something"),
        RpcError(Status.NO_MASTER, "nothing works; do something"),
        PermissionError(13, "nothing works; do something", "a/file"),
    ],
)
def test_an_explained_failure_is_one_sentence(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(edge, "run", raises(error))
    result = invoke("status")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("phxqueue: ")
    assert "nothing works; do something" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_defect_is_called_one_and_debug_shows_where(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "run", raises(ZeroDivisionError("oops")))
    result = invoke("status")
    assert result.exit_code == 1
    assert "this should not have happened (ZeroDivisionError: oops)" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in invoke("--debug", "status").stderr


@pytest.mark.parametrize("interruption", [Interrupted(2), KeyboardInterrupt()], ids=["running", "before the reactor"])
def test_ctrl_c(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, interruption: BaseException) -> None:
    monkeypatch.setattr(edge, "run", raises(interruption))
    result = invoke("status")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_a_missing_cluster_file(invoke: Invoke) -> None:
    result = invoke("-c", "no/where.conf", "status")
    assert result.exit_code == 1
    assert "no/where.conf does not exist" in result.stderr
    assert "$PHXQUEUE_CONFIG" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], None, "etc/globalconfig.conf"),
        ([], "environment.conf", "environment.conf"),
        (["-c", "before.conf"], "environment.conf", "before.conf"),
        (["-c", "before.conf", "after"], "environment.conf", "after.conf"),
    ],
)
def test_which_cluster_file_counts(
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: str | None,
    expected: str,
) -> None:
    loaded: list[Path] = []

    def load(settings: ClusterContext) -> None:
        loaded.append(settings.config)
        raise AdminError("enough")

    monkeypatch.setattr(ClusterContext, "load", load)
    before = [argument for argument in arguments if argument != "after"]
    after = ["-c", "after.conf"] if "after" in arguments else []
    invoke(*before, "status", *after, env={"PHXQUEUE_CONFIG": environment})
    assert [str(path) for path in loaded] == [expected]


RUN_FOR_EVER = """
import sys
from phxqueue.admin import edge
from twisted.internet.defer import Deferred

async def main(reactor):
    print("running", flush=True)
    try:
        await Deferred()
    finally:
        print("cleaned up", flush=True)

try:
    edge.run(main)
except edge.Interrupted as interruption:
    sys.exit(interruption.exit_status)
"""


@pytest.mark.parametrize(("number", "status"), [(2, 130), (15, 143)])
def test_a_signal_cancels_the_command_and_lets_it_clean_up(number: int, status: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN_FOR_EVER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.send_signal(number)
    output, _ = process.communicate(timeout=100)
    assert output == "cleaned up\n"
    assert process.returncode == status


def test_the_edge_passes_on_results_and_errors() -> None:
    script = (
        "from phxqueue.admin import edge\n"
        "async def main(reactor):\n"
        "    if {fail}: raise LookupError('reason')\n"
        "    return 42\n"
        "try: print(edge.run(main))\n"
        "except LookupError as error: print('raised', error)\n"
    )
    for fail, expected in ((False, "42\n"), (True, "raised reason\n")):
        command = [sys.executable, "-c", script.format(fail=fail)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == expected


def test_main_is_what_setup_cfg_names() -> None:
    assert "phxqueue = phxqueue.admin.main:main" in (REPOSITORY / "setup.cfg").read_text()
    assert callable(main)
