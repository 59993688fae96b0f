"""The benchmark measures what it says; how fast it is, is its own affair."""

import math
from dataclasses import replace
from itertools import cycle

import pytest

from rl_lr.bench import callback
from rl_lr.bench.engine import engine_figures, workloads
from rl_lr.bench.ratios import paired


def test_a_paired_ratio_is_the_median_of_neighbours_after_a_warm_up() -> None:
    ours = cycle([100.0, 2.0, 4.0, 6.0])  # the first is warm-up
    ratio = paired("", "", lambda: next(ours), lambda: 2.0, 3)
    assert (ratio.median, ratio.low <= 1.0, ratio.high >= 3.0) == (2.0, True, True)


def test_every_engine_figure_is_measured_for_every_workload() -> None:
    tiny = tuple(replace(load, runs=2, steps=20, horizon=240) for load in workloads())
    figures = engine_figures(2, tiny)
    assert len({figure.name for figure in figures}) == len(figures)
    assert all(math.isfinite(figure.median) and figure.median > 0 for figure in figures)
    for load in tiny:
        assert sum(load.task.name in figure.name for figure in figures) >= 4


def test_what_the_callback_takes_is_a_part_of_the_fit_it_is_measured_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(callback, "_FIT_STEPS", 60)  # all of them decided or nearly, 13 of the other fit's
    dense, first, later = callback.callback_within(2)
    assert 1.0 < first.low <= first.median < dense.median < 2.0
    assert 1.0 < later.low <= later.median < dense.median
