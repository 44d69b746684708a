"""The load that is shown follows reports, but not their noise."""

from __future__ import annotations

from phxqueue.scheduler.load import Report, SmoothedLoad


def shown(reports: list[Report], *, sticky: float = 5.0, use_slots: bool = False) -> float | None:
    load = SmoothedLoad(sticky, use_slots)
    for report in reports:
        load.add(report)
    return load.shown


def test_nothing_is_shown_before_the_first_report() -> None:
    assert shown([]) is None


def test_it_is_the_mean_of_the_last_six() -> None:
    reports = [Report(cpu=100.0)] * 6 + [Report(cpu=40.0)] * 6
    assert shown(reports, sticky=0.0) == 40.0
    assert shown(reports[:9], sticky=0.0) == 70.0


def test_small_changes_are_not_shown() -> None:
    assert shown([Report(cpu=50.0)] * 6 + [Report(cpu=54.0)] * 6) == 50.0


def test_many_small_changes_add_up() -> None:
    reports = [Report(cpu=50.0 + step) for step in range(30)]
    last = shown(reports)
    assert last is not None
    assert last > 70.0


def test_used_slots_add_to_the_load_when_they_should() -> None:
    assert shown([Report(cpu=40.0, slots=50.0)]) == 40.0
    assert shown([Report(cpu=40.0, slots=50.0)], use_slots=True) == 60.0


def test_nonsense_stays_within_bounds() -> None:
    assert shown([Report(cpu=-3.0, slots=1e9)], use_slots=True) == 0.0
    assert shown([Report(cpu=40.0, slots=1e9)], use_slots=True) == 80.0
