"""What every test gets, asked for or not: nothing may fail behind its back, and nothing may outlive it.

pytest-twisted runs the whole session inside one reactor. A Deferred that fails with nobody listening only writes a log
line, and a timer, socket or thread that a test forgot goes on into the next one. The ``tidy`` fixture turns both into a
failure of the test that caused them.

A test that expects logged failures takes the ``logged_errors`` fixture and flushes what it expects::

    def test_handler_that_raises(logged_errors):
        ...
        [failure] = logged_errors.flush(ZeroDivisionError)
"""

from __future__ import annotations

import functools
import gc
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import hypothesis
import pytest
import pytest_twisted
from twisted.internet import defer, error, reactor, task
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

# Deadlines of hypothesis measure a shared machine, not the code. In CI the examples are the same every time, so that
# what fails there fails again at home; elsewhere each run looks at new ones.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.register_profile("dev", deadline=None, max_examples=50)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")

DEFAULT_LIMIT_S = 20.0
"""How long an asynchronous test may wait, unless marked ``@pytest.mark.reactor_limit(seconds)``."""

SETTLE_S = 2.0
SETTLE_TURNS = 100
"""How long, and how many turns of the reactor, closed connections, stopped ports and joined threads may take to be gone
after a test. Time alone may pass without a turn, where the machine stalls."""


class LoggedErrors:
    """What was logged with a failure, or at level critical, since the test began."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_failure") is not None or (event.get("log_level") is LogLevel.critical and not _title(event)):
            self.events.append(event)

    def flush(self, *types: type[BaseException]) -> list[Failure]:
        """Take out, and return, the logged failures of these types (of any type when none is named)."""
        gc.collect()
        taken = [event for event in self.events if _is_failure_of(event, types)]
        self.events = [event for event in self.events if not _is_failure_of(event, types)]
        return [event["log_failure"] for event in taken]

    def flush_critical(self, text: str = "") -> list[str]:
        """Take out, and return, the messages logged at level critical without a failure that contain ``text``."""
        taken = [e for e in self.events if e.get("log_failure") is None and text in formatEvent(e)]
        self.events = [event for event in self.events if event not in taken]
        return [formatEvent(event) for event in taken]


def _title(event: LogEvent) -> bool:
    """Whether this is only the line that Twisted logs ahead of the failure itself."""
    return str(event.get("log_format", "")).startswith("Unhandled error in Deferred")


def _is_failure_of(event: LogEvent, types: tuple[type[BaseException], ...]) -> bool:
    failure = event.get("log_failure")
    return failure is not None and (not types or failure.check(*types) is not None)


def _describe(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return formatEvent(event) + ("" if failure is None else "\n" + failure.getTraceback())


class Leftovers:
    """What of the reactor's and the process's belongings was not there when the test began."""

    def __init__(self) -> None:
        self._calls = set(reactor.getDelayedCalls())
        self._selectables = set(reactor.getReaders()) | set(reactor.getWriters())
        self._threads = set(threading.enumerate())

    def calls(self) -> list[IDelayedCall]:
        return [call for call in reactor.getDelayedCalls() if call not in self._calls]

    def selectables(self) -> set[Any]:
        return (set(reactor.getReaders()) | set(reactor.getWriters())) - self._selectables - reactor._internalReaders

    def threads(self) -> list[threading.Thread]:
        # The reactor's own pool keeps its threads for the whole session.
        return [
            thread
            for thread in threading.enumerate()
            if thread not in self._threads and not thread.name.startswith("PoolThread-twisted.internet.reactor")
        ]

    def all(self) -> list[str]:
        return [
            *(f"delayed call: {call}" for call in self.calls()),
            *(f"open: {selectable}" for selectable in self.selectables()),
            *(f"thread: {thread}" for thread in self.threads()),
        ]

    def remove(self) -> None:
        """End what can be ended, so that the next test is not blamed for it."""
        for call in self.calls():
            call.cancel()
        for selectable in self.selectables():
            reactor.removeReader(selectable)
            reactor.removeWriter(selectable)
            selectable.connectionLost(Failure(error.ConnectionAborted("left open by a test")))

    async def settle(self, limit_s: float) -> None:
        """Let the reactor turn until nothing is left, at most this long."""
        end, turns = time.monotonic() + limit_s, 0
        while (self.selectables() or self.threads()) and (time.monotonic() < end or turns < SETTLE_TURNS):
            await task.deferLater(reactor, 0.002)
            turns += 1


@pytest.fixture
def logged_errors() -> Iterator[LoggedErrors]:
    """The failures logged during the test; whatever of them is not flushed fails it."""
    logged = LoggedErrors()
    globalLogPublisher.addObserver(logged)
    yield logged
    globalLogPublisher.removeObserver(logged)


@pytest.fixture(autouse=True)
def tidy(request: pytest.FixtureRequest, logged_errors: LoggedErrors) -> Iterator[None]:
    """Fail a test that leaves a logged error, timer, socket or thread behind."""
    leftovers = Leftovers()
    shared = request.node.get_closest_marker("shared_reactor") is not None
    yield
    if not shared and (leftovers.selectables() or leftovers.threads()):
        pytest_twisted.blockon(defer.ensureDeferred(leftovers.settle(SETTLE_S)))
    # Failures nobody handled are logged when their Deferred is collected: collect it while this test is to blame. What
    # has survived belongs to the session, and need not be looked at after every test to come.
    gc.collect()
    gc.freeze()
    problems = [f"logged: {_describe(event)}" for event in logged_errors.events]
    if not shared:
        problems += leftovers.all()
        leftovers.remove()
    if problems:
        pytest.fail("the test left behind:\n" + "\n".join(problems), pytrace=False)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, None]:
    """Give every asynchronous test a limit, by cancelling what it waits for: the traceback shows where it waited.

    pytest-timeout cannot: raised inside the reactor its exception would only be logged.
    """
    test = pyfuncitem.obj
    if getattr(test, "_pytest_twisted_mark", None) is not None and not hasattr(test, "hypothesis"):
        marker = pyfuncitem.get_closest_marker("reactor_limit")
        pyfuncitem.obj = _limited(test, DEFAULT_LIMIT_S if marker is None else float(marker.args[0]))
    yield


def _limited(test: Callable[..., Any], limit_s: float) -> Callable[..., defer.Deferred[Any]]:
    @functools.wraps(test)
    def limited(*args: object, **kwargs: object) -> defer.Deferred[Any]:
        result = test(*args, **kwargs)
        deferred = result if isinstance(result, defer.Deferred) else defer.ensureDeferred(result)
        return deferred.addTimeout(limit_s, reactor, onTimeoutCancel=functools.partial(_timed_out, limit_s))

    limited._pytest_twisted_mark = "inline_callbacks_test"  # type: ignore[attr-defined]
    return limited


def _timed_out(limit_s: float, result: object, _timeout: float) -> object:
    if isinstance(result, Failure) and result.check(defer.CancelledError):
        trace = result.getTraceback()
        raise TimeoutError(f"the test waited longer than {limit_s:g} s, here:\n{trace}")
    return result


def pytest_collection_finish(session: pytest.Session) -> None:
    """Every test ends with a garbage collection: what was imported by now need not be looked at by each of them."""
    assert isinstance(reactor, EPollReactor), f"the suite is meant for the epoll reactor, not {reactor!r}"
    gc.collect()
    gc.freeze()
