"""Base schedules and the grid of decisions."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_lr.config import ControlConfig
from rl_lr.controller import Controller
from rl_lr.schedules import (
    WSD_DECAY,
    BaseSchedule,
    base_schedule,
    check_schedule,
    decision_steps,
    warmup_steps,
)

CONFIG = ControlConfig()
NAMES = ("cosine", "linear", "wsd", "constant")
any_schedule = pytest.mark.parametrize("name", NAMES)


@given(st.integers(56, 200_000))
def test_a_run_of_56_steps_or_more_has_56_decisions(total_steps: int) -> None:
    grid = decision_steps(total_steps, CONFIG)
    assert len(grid) == 56
    assert grid[0] == 0
    assert grid[-1] < total_steps
    assert all(a < b for a, b in pairwise(grid))


@pytest.mark.parametrize("total_steps", [1, 2, 20, 55, 56])
def test_a_run_no_longer_than_the_grid_is_decided_at_every_step(total_steps: int) -> None:
    assert decision_steps(total_steps, CONFIG) == tuple(range(total_steps))


def test_twelve_decisions_divide_the_warmup_and_the_rest_is_even() -> None:
    grid = decision_steps(44_000, ControlConfig(warmup_fraction=0.5))
    assert grid[12] == warmup_steps(44_000, ControlConfig(warmup_fraction=0.5)) == 22_000
    assert {b - a for a, b in pairwise(grid[12:])} == {500}
    assert {b - a for a, b in pairwise(grid[:13])} == {1833, 1834}


@given(
    total_steps=st.integers(1, 500),
    warmup_fraction=st.floats(0.0, 1.0),
    early=st.integers(1, 20),
    late=st.integers(1, 60),
)
def test_the_grid_is_sound_for_any_constants(
    total_steps: int, warmup_fraction: float, early: int, late: int
) -> None:
    config = ControlConfig(warmup_fraction=warmup_fraction, warmup_decisions=early, decisions=late)
    grid = decision_steps(total_steps, config)
    assert len(grid) == min(early + late, total_steps)
    assert grid[0] == 0
    assert grid[-1] < total_steps
    assert all(a < b for a, b in pairwise(grid))


@any_schedule
def test_warmup_rises_exponentially_from_a_thousandth_to_one(name: BaseSchedule) -> None:
    values = [base_schedule(t, 1000, name, CONFIG) for t in range(51)]
    assert values[0] == pytest.approx(1e-3)
    assert values[25] == pytest.approx(math.sqrt(1e-3))
    assert values[50] == 1.0
    ratios = [b / a for a, b in pairwise(values)]
    assert ratios == pytest.approx([1e-3 ** (-1 / 50)] * 50)


@pytest.mark.parametrize(
    ("name", "middle", "end"),
    [
        ("cosine", 0.5, 0.5 * (1 - math.cos(math.pi / 950))),
        ("linear", 0.5, 1 / 950),
        ("wsd", 1.0, 1 / (950 * WSD_DECAY)),
        ("constant", 1.0, 1.0),
    ],
)
def test_each_shape_has_its_middle_and_end(name: BaseSchedule, middle: float, end: float) -> None:
    assert base_schedule(525, 1000, name, CONFIG) == pytest.approx(middle)
    assert base_schedule(999, 1000, name, CONFIG) == pytest.approx(end)


def test_wsd_holds_until_its_decay_and_then_falls_linearly() -> None:
    start = 50 + round(950 * (1 - WSD_DECAY))
    assert base_schedule(start, 1000, "wsd", CONFIG) == pytest.approx(1.0)
    assert base_schedule(start + 95, 1000, "wsd", CONFIG) == pytest.approx(0.5)


@any_schedule
@given(total_steps=st.integers(1, 200_000), step=st.integers(-5, 10**6))
def test_every_value_is_positive_and_at_most_one(name: BaseSchedule, total_steps: int, step: int) -> None:
    value = base_schedule(step, total_steps, name, CONFIG)
    assert 0.0 < value <= 1.0
    if step >= total_steps:
        assert value == base_schedule(total_steps - 1, total_steps, name, CONFIG)


@any_schedule
def test_the_last_value_stays_positive_over_a_billion_steps(name: BaseSchedule) -> None:
    assert base_schedule(10**9 - 1, 10**9, name, CONFIG) > 0.0


def test_an_unknown_schedule_is_refused_with_the_choices() -> None:
    unknown: Any = "cosin"
    for refuse in (lambda: check_schedule(unknown), lambda: Controller(1, 1, 100, unknown)):
        with pytest.raises(ValueError, match=r"'cosin'.*cosine, linear, wsd, constant"):
            refuse()
