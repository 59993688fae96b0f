"""Losses that wait for a decision: all are told, in their order, and the guard does what it would have done at once."""

import math

import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from rl_lr.backlog import Backlog
from rl_lr.controller import Controller

T = 240  # a decision after every step, then every fifth or sixth


@given(st.lists(st.integers(0, 300), max_size=4))
def test_all_that_waits_comes_once_and_in_order(counts: list[int]) -> None:
    backlog, told = Backlog(), 0
    for count in counts:
        for step in range(count):
            backlog.add(torch.tensor([float(told + step), -1.0]))
        taken = backlog.take()
        assert (taken is None) == (count == 0)
        if taken is not None:
            assert taken.tolist() == [[float(told + step), -1.0] for step in range(count)]
        told += count
    assert backlog.take() is None


def decided(controller: Controller) -> tuple[Tensor, ...]:
    """One decision: who fell, who is healthy, the signals, the offset."""
    controller.catch_up()
    fallen, healthy = controller.rewind()
    signals = controller.signals()
    controller.act(torch.full_like(controller.offset, 0.1))
    return fallen, healthy, signals, controller.offset


spikes = st.dictionaries(
    st.integers(0, T - 1), st.sampled_from([9.0, 1e3, 1e9, math.inf, -math.inf, math.nan]), max_size=16
)


BEFORE_A_DECISION = {120: 1e3}  # the next loss, right after it, shows this one to be chance


@given(spikes, spikes)
@example(BEFORE_A_DECISION, BEFORE_A_DECISION | dict.fromkeys(range(122, 126), 1e3))
def test_a_guard_that_is_told_late_does_the_same_at_every_decision(
    ones: dict[int, float], others: dict[int, float]
) -> None:
    noise = torch.rand(T, 2, generator=torch.Generator().manual_seed(0))
    at_once, late = Controller(2, 1, T), Controller(2, 1, T, deferred=True)
    for step, quiet in enumerate(noise.tolist()):
        if at_once.due:
            for mine, theirs in zip(decided(at_once), decided(late), strict=True):
                assert_close(theirs, mine, rtol=0.0, atol=0.0, equal_nan=True, msg=f"step {step}")
        loss = torch.tensor([ones.get(step, quiet[0]), others.get(step, quiet[1])])
        at_once.record(loss)
        late.record(loss)
    late.catch_up()
    for mine, theirs in zip(decided(at_once), decided(late), strict=True):
        assert_close(theirs, mine, rtol=0.0, atol=0.0, equal_nan=True)
    assert late.guard_events.tolist() == at_once.guard_events.tolist()


def test_an_explosion_in_a_long_window_is_cut_where_it_is_caught_up_with() -> None:
    controller = Controller(1, 1, 10_000, deferred=True)
    for _ in range(900):
        if controller.due:
            decided(controller)
        controller.record(torch.tensor([1.0]))
    before = controller.offset
    for _ in range(3):
        controller.record(torch.tensor([50.0]))
    assert controller.offset is before
    controller.catch_up()
    assert controller.guard_events.tolist() == [1]
    assert float(before - controller.offset) == controller.config.guard_cut
