"""When a run is decided, with a horizon and without."""

from itertools import pairwise

import pytest

from rl_lr.config import ControlConfig
from rl_lr.schedules import base_schedule, decision_steps
from rl_lr.timetable import LEAST_HORIZON, Timetable

CONFIG = ControlConfig()


def test_with_a_horizon_it_is_the_base_schedule_and_its_decisions() -> None:
    table = Timetable(400, "linear", CONFIG)
    assert table.decisions == decision_steps(400, CONFIG)
    assert [table.at(t).schedule for t in range(400)] == [
        base_schedule(t, 400, "linear", CONFIG) for t in range(400)
    ]
    assert [table.is_over(t) for t in (399, 400, 401)] == [False, True, True]
    assert table.window(399) == (table.decisions[-1], 400)
    assert table.progress(100) == 0.25


def test_without_one_it_begins_as_a_run_of_the_least_horizon() -> None:
    open_ended, short = Timetable(None, "cosine", CONFIG), Timetable(LEAST_HORIZON, "constant", CONFIG)
    half = LEAST_HORIZON // 2
    assert [d for d in open_ended.decisions if d <= half] == [d for d in short.decisions if d <= half]
    assert [open_ended.at(t).schedule for t in range(half)] == [short.at(t).schedule for t in range(half)]
    assert [open_ended.progress(t) for t in range(half)] == [short.progress(t) for t in range(half)]


def test_without_one_it_goes_on_as_in_the_middle_of_a_run_twice_as_long() -> None:
    table = Timetable(None, "cosine", CONFIG)
    for step in (1000, 50_000, 10**9):
        assert table.at(step).schedule == 1.0
        assert table.progress(step) == 0.5
        assert not table.is_over(step)
        start, end = table.window(step)
        early, late = next(pair for pair in pairwise(decision_steps(2 * start, CONFIG)) if pair[1] > start)
        assert end - start == pytest.approx(late - early, rel=0.05, abs=1)
    assert len(table.decisions) < 1000


@pytest.mark.parametrize("step", [0, 3, 49, 50, 51, 499, 500, 12_345])
@pytest.mark.parametrize("total_steps", [400, None])
def test_a_window_holds_its_step_and_begins_at_a_decision(step: int, total_steps: int | None) -> None:
    table = Timetable(total_steps, "cosine", CONFIG)
    start, end = table.window(step)
    assert start <= step
    assert step < end or table.is_over(step)
    assert table.at(start).decides
    assert table.at(step).decides == (start == step)
