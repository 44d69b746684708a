"""The suite's own safety net (tests/conftest.py): what a test leaves behind fails that test, and only that one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"

CAREFUL = """
import pytest, pytest_twisted
from twisted.internet import defer, reactor, task
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

def test_flushes(logged_errors):
    defer.fail(ZeroDivisionError("expected"))
    [failure] = logged_errors.flush(ZeroDivisionError)
    assert "expected" in failure.getErrorMessage()

@pytest_twisted.ensureDeferred
async def test_closes():
    # Closing takes both sides a few turns of the reactor: they are given them.
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Protocol))
    client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), Protocol())
    client.transport.loseConnection()
    port.stopListening()

@pytest_twisted.inlineCallbacks
def test_waits():
    yield task.deferLater(reactor, 0.001)
"""

CARELESS = '''
import threading
import pytest, pytest_twisted
from twisted.internet import defer, reactor
from twisted.internet.protocol import Factory
from twisted.logger import Logger

def test_unhandled():
    defer.fail(ZeroDivisionError("nobody listens"))

def test_unhandled_in_a_cycle():
    deferred = defer.fail(ZeroDivisionError("nobody listens"))
    deferred.self = deferred

def test_critical():
    Logger().critical("the disk is gone")

def test_timer():
    reactor.callLater(1000, print)

def test_port():
    reactor.listenTCP(0, Factory(), interface="127.0.0.1")

def test_thread():
    threading.Thread(target=threading.Event().wait, args=(1.0,), name="left over", daemon=True).start()

def test_between():
    """Suffers from none of the others."""

@pytest.mark.reactor_limit(0.05)
@pytest_twisted.ensureDeferred
async def test_stuck():
    await defer.Deferred()  # here it is stuck
'''


Outcomes = tuple[dict[str, set[str]], str]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Both files run under our conftest: the reports each test got, and the output."""
    folder = tmp_path_factory.mktemp("ground_rules")
    rules = CONFTEST.read_text()
    assert rules.count("SETTLE_S = 2.0") == 1
    (folder / "conftest.py").write_text(rules.replace("SETTLE_S = 2.0", "SETTLE_S = 0.3"))
    (folder / "test_careful.py").write_text(CAREFUL)
    (folder / "test_careless.py").write_text(CARELESS)
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run = subprocess.run([*pytest_here, f"--rootdir={folder}", folder], cwd=folder, capture_output=True, text=True)
    found: dict[str, set[str]] = {}
    for outcome, name in re.findall(r"^(PASSED|FAILED|ERROR) test_\w+\.py::(\w+)", run.stdout, re.MULTILINE):
        found.setdefault(name, set()).add(outcome)
    return found, run.stdout


@pytest.mark.parametrize("name", ["test_flushes", "test_closes", "test_waits", "test_between"])
def test_careful_test_passes(outcomes: Outcomes, name: str) -> None:
    found, output = outcomes
    assert found[name] == {"PASSED"}, output


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("test_unhandled", "ZeroDivisionError: nobody listens"),
        ("test_unhandled_in_a_cycle", "ZeroDivisionError: nobody listens"),
        ("test_critical", "logged: the disk is gone"),
        ("test_timer", "delayed call: <DelayedCall"),
        ("test_port", "open: <<class 'twisted.internet.tcp.Port'>"),
        ("test_thread", "thread: <Thread(left over"),
    ],
)
def test_careless_test_is_blamed(outcomes: Outcomes, name: str, said: str) -> None:
    found, output = outcomes
    assert found[name] == {"PASSED", "ERROR"}, output
    section = output.split(f"at teardown of {name} __")[1].split("\n____")[0]
    assert said in section


def test_a_stuck_test_shows_where(outcomes: Outcomes) -> None:
    found, output = outcomes
    assert found["test_stuck"] == {"FAILED"}, output
    assert "the test waited longer than 0.05 s" in output
    assert "await defer.Deferred()  # here it is stuck" in output
