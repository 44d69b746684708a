"""A few seeds of the storm (see storm.py); thousands are run by hand, and by the simulator on the whole node."""

from __future__ import annotations

import pytest

from tests.paxos.storm import Storm


@pytest.mark.parametrize("seeds", [range(first, first + 10) for first in range(0, 40, 10)], ids=str)
def test_nothing_is_lost_or_chosen_twice_and_all_gets_well_again(seeds: range) -> None:
    for seed in seeds:
        try:
            Storm(seed).run()
        except BaseException as failure:
            message = f"seed {seed}: python -m tests.paxos.storm {seed} --trace"
            raise AssertionError(message) from failure
