from __future__ import annotations

from phxqueue.net.liveness import Liveness, Verdict

FINE, PING, SILENT, STALLED = Verdict.FINE, Verdict.PING, Verdict.SILENT, Verdict.STALLED


def make() -> Liveness:
    return Liveness(interval=4.0, timeout=4.0, stall_timeout=10.0, now=100.0)


def ticks(liveness: Liveness, times: list[float], stalled_since: float | None = None) -> list[Verdict]:
    return [liveness.tick(now, stalled_since=stalled_since, reading=True) for now in times]


def test_a_silent_peer_is_pinged_and_then_given_up() -> None:
    assert ticks(make(), [102, 104, 106, 108]) == [FINE, PING, FINE, SILENT]


def test_an_answer_to_the_ping_starts_over() -> None:
    liveness = make()
    assert ticks(liveness, [102, 104]) == [FINE, PING]
    liveness.last_heard = 104.5
    assert ticks(liveness, [106, 108, 110, 112]) == [FINE, FINE, PING, FINE]


def test_a_peer_that_speaks_is_not_pinged() -> None:
    liveness = make()
    for now in (102.0, 104.0, 106.0, 108.0, 110.0):
        liveness.last_heard = now - 0.1
        assert liveness.tick(now, stalled_since=None, reading=True) is FINE


def test_a_peer_that_takes_no_bytes_is_given_up_although_it_speaks() -> None:
    liveness = make()
    verdicts = []
    for now in (102.0, 104.0, 106.0, 108.0, 110.0, 112.0):
        liveness.last_heard = now
        verdicts.append(liveness.tick(now, stalled_since=101.0, reading=True))
    assert verdicts == [FINE] * 5 + [STALLED]


def test_silence_means_nothing_while_we_do_not_read() -> None:
    liveness = make()
    assert [liveness.tick(now, stalled_since=None, reading=False) for now in (102, 104, 106, 108, 110)] == [FINE] * 5
    assert ticks(liveness, [112, 114]) == [FINE, PING]


def test_who_slept_itself_blames_nobody() -> None:
    """A process stopped for a minute finds all its peers silent, and must not drop them."""
    liveness = make()
    assert ticks(liveness, [102, 104]) == [FINE, PING]
    assert ticks(liveness, [164, 166], stalled_since=101.0) == [FINE, FINE]
    assert ticks(liveness, [168, 170, 172]) == [PING, FINE, SILENT]
