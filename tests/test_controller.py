"""The control law, the guard, and saving in mid-run."""

import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rl_lr.config import ControlConfig
from rl_lr.controller import APART, Controller
from rl_lr.schedules import base_schedule

T = 1000  # the decision grid starts 0, 4, 8; its last windows are 22 steps long
CUT = math.log(10.0)


def advance(controller: Controller, loss: Tensor, steps: int, action: float = 0.0) -> None:
    """Record ``steps`` equal losses; wherever a decision is due, act."""
    for _ in range(steps):
        if controller.due:
            controller.signals()
            controller.act(torch.full((len(loss),), action))
        controller.record(loss)


def settled(losses: list[float], steps: int = 910) -> Controller:
    """A controller in the middle of a long window, its first window at ``losses``."""
    controller = Controller(len(losses), 1, T)
    advance(controller, torch.tensor(losses), steps)
    return controller


def offset(controller: Controller) -> float:
    return float(controller.offset[0])


@given(st.lists(st.floats(-3.0, 3.0), min_size=1, max_size=12))
def test_rates_follow_the_control_law(actions: list[float]) -> None:
    config = ControlConfig(step=0.7, warmup_step=1.3, bound=2.0)
    controller, expected = Controller(1, 1, 12, "linear", config), 0.0
    for step, action in enumerate(actions):
        assert controller.due
        controller.signals()
        controller.act(torch.tensor([action], dtype=torch.float64))
        largest = 1.3 if step < 1 else 0.7  # a run of 12 steps warms up for one
        expected = min(max(expected + largest * min(max(action, -1.0), 1.0), -2.0), 2.0)
        rate = base_schedule(step, 12, "linear", config) * math.exp(expected)
        assert float(controller.rates()) == pytest.approx(rate, rel=1e-12)
        controller.record(torch.ones(1))


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_offset_stops_at_its_bound(sign: float) -> None:
    controller = Controller(1, 1, T)
    for _ in range(20):
        controller.act(torch.tensor([sign]))
    assert offset(controller) == sign * controller.config.bound


def test_tensors_of_a_network_stay_near_the_mean_of_their_offsets() -> None:
    controller = Controller(6, 1, T, tensors=3)
    controller.act(torch.tensor([0.0, 0.1, -0.1, 1.0, 1.0, -1.0]))
    near, apart = controller.offset.view(2, 3).tolist()
    assert near == pytest.approx([0.0, 0.2, -0.2])  # in the warm-up a whole action is two nats
    mean = 2.0 / 3.0
    assert apart == pytest.approx([mean + APART, mean + APART, mean - APART])


@given(st.lists(st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4), max_size=30))
def test_offsets_of_a_network_are_never_further_apart_than_twice_the_bound(
    actions: list[list[float]],
) -> None:
    controller = Controller(4, 1, T, tensors=2)
    for action in actions:
        controller.act(torch.tensor(action))
        each = controller.offset.view(2, 2)
        assert float((each[:, 0] - each[:, 1]).abs().max()) <= 2 * APART + 1e-9


@pytest.mark.parametrize("action", [math.nan, math.inf, -math.inf])
def test_a_non_finite_action_keeps_the_offset(action: float) -> None:
    controller = Controller(2, 1, T)
    controller.act(torch.tensor([0.5, 0.5]))
    controller.act(torch.tensor([action, 0.25]))
    assert controller.offset.tolist() == [1.0, 1.5]  # in the warm-up a whole action is two nats
    assert controller.last_action.tolist() == [0.0, 0.25]


def test_a_decision_is_due_once_at_each_step_of_the_grid() -> None:
    controller, copy, due = Controller(1, 1, 200), Controller(1, 1, 200), []
    for step in range(210):
        if controller.due:
            due.append(step)
            controller.act(torch.zeros(1))
            assert controller.just_decided
            copy.load_state_dict(controller.state_dict())
            assert not controller.due
            assert not copy.due
        controller.record(torch.ones(1))
    assert tuple(due) == controller.timetable.decisions


@pytest.mark.parametrize("total_steps", [T, 3000, 100_000])
def test_a_window_of_any_length_is_measured_in_a_few_steps(total_steps: int) -> None:
    controller, measured = Controller(1, 1, total_steps), []
    for step in range(*controller.timetable.decisions[-2:]):
        controller.step = step
        measured.append(controller.now.measured)
    assert measured[:4] == [True] * 4
    assert 8 <= sum(measured) <= 12


def test_the_guard_cuts_only_the_run_whose_loss_exploded() -> None:
    controller = settled([1.0, 1.0, -2.0, -2.0])
    controller.record(torch.tensor([3.9, 4.1, 3.9, 4.1]))
    assert controller.offset.tolist() == pytest.approx([0.0, -CUT, 0.0, -CUT])
    assert controller.guard_events.tolist() == [0, 1, 0, 1]


def test_the_guard_cuts_again_only_when_the_loss_grew_further() -> None:
    controller = settled([1.0])
    for loss, cuts in ((100.0, 1), (100.0, 1), (140.0, 1), (160.0, 2), (160.0, 2)):
        controller.record(torch.tensor([loss]))
        assert int(controller.guard_events) == cuts
    assert offset(controller) == pytest.approx(-2 * CUT)


def test_a_decision_does_not_make_the_guard_cut_the_same_loss_again() -> None:
    controller = settled([1.0])
    advance(controller, torch.tensor([100.0]), 60)
    assert int(controller.guard_events) == 1


def test_the_guard_cuts_a_second_explosion_after_the_loss_recovered() -> None:
    controller = settled([1.0])
    for loss, steps in ((100.0, 1), (1.0, 60), (100.0, 1)):
        advance(controller, torch.tensor([loss]), steps)
    assert int(controller.guard_events) == 2


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_non_finite_loss_cuts_at_once_and_never_below_the_bound(loss: float) -> None:
    controller = Controller(2, 1, T)
    controller.record(torch.tensor([loss, 1.0]))
    assert controller.offset.tolist() == pytest.approx([-CUT, 0.0])
    for _ in range(9):
        controller.record(torch.tensor([loss, 1.0]))
    assert controller.offset.tolist() == [-controller.config.bound, 0.0]
    assert controller.guard_events.tolist() == [10, 0]


def test_a_run_that_stays_up_there_falls_and_keeps_the_offset_of_the_last_decision_less_a_cut() -> None:
    controller = settled([1.0, 1.0])
    controller.act(torch.tensor([0.5, 0.5]))
    for loss in (5.0, 50.0, 500.0, 5000.0):  # four cuts of the second run
        controller.record(torch.tensor([1.0, loss]))
    fallen, healthy = controller.rewind()
    assert (fallen.tolist(), healthy.tolist()) == ([False, True], [True, False])
    assert controller.offset.tolist() == pytest.approx([0.5, 0.5 - CUT])
    assert controller.rewinds.tolist() == [0, 1]


def test_a_cut_is_taken_back_if_the_next_loss_is_not_up_there_which_knows_nothing_of_it() -> None:
    controller = settled([1.0])
    controller.record(torch.tensor([5.0]))
    assert offset(controller) == pytest.approx(-CUT)
    for _ in range(8):
        controller.record(torch.tensor([1.0]))
        assert offset(controller) == pytest.approx(0.0)
    assert [bool(one) for one in controller.rewind()] == [False, True]
    assert int(controller.guard_events) == 1


def test_a_cut_stays_where_the_second_loss_was_up_there_too() -> None:
    controller = settled([1.0])
    for loss in (5.0, 4.5, *[1.0] * 7):
        controller.record(torch.tensor([loss]))
    fallen, healthy = controller.rewind()
    assert not fallen
    assert healthy
    assert offset(controller) == pytest.approx(-CUT)


def test_a_decision_between_a_cut_and_its_taking_back_is_kept() -> None:
    controller = settled([1.0, 1.0])
    controller.record(torch.tensor([5.0, 1.0]))
    controller.act(torch.tensor([0.5, 0.5]))
    controller.record(torch.tensor([1.0, 1.0]))
    assert controller.offset.tolist() == pytest.approx([0.5, 0.5])
    for _ in range(8):
        controller.record(torch.tensor([50.0, 50.0]))
    assert controller.rewind()[0].tolist() == [True, True]
    assert controller.offset.tolist() == pytest.approx([0.5 - CUT, 0.5 - CUT])


def test_of_a_run_that_goes_back_nothing_is_taken_back_though_its_next_loss_is_low() -> None:
    controller = settled([1.0])
    for loss in (5.0, 50.0, 500.0, 5000.0):
        controller.record(torch.tensor([loss]))
    assert controller.rewind()[0].tolist() == [True]
    controller.record(torch.tensor([1.0]))
    assert offset(controller) == pytest.approx(-CUT)


def test_at_the_bound_no_more_is_given_back_than_was_taken() -> None:
    controller = settled([1.0])
    for _ in range(12):
        controller.act(torch.tensor([-1.0]))
    before = offset(controller)
    for loss in (5.0, 1.0):
        controller.record(torch.tensor([loss]))
    assert offset(controller) == before


def test_a_run_that_has_just_begun_to_fall_is_neither_fallen_nor_healthy_until_the_end() -> None:
    controller = settled([1.0])
    for loss in (*[1.0] * 8, 5.0):
        controller.record(torch.tensor([loss]))
    assert [bool(one) for one in controller.rewind()] == [False, False]
    controller.step = T
    assert [bool(one) for one in controller.rewind()] == [True, False]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_after_five_falls_in_a_row_the_loss_is_taken_as_it_is(loss: float) -> None:
    controller, fell = settled([1.0]), []
    for _ in range(7):
        controller.record(torch.tensor([loss]))
        fell.append(bool(controller.rewind()[0]))
        controller.signals()
        controller.act(torch.zeros(1))
    assert fell == [True] * 5 + [False, True]


def test_a_loss_that_rises_for_good_is_taken_as_the_new_level_at_the_rate_before_it_rose() -> None:
    controller, fell, offsets = settled([1.0]), [], []
    controller.act(torch.tensor([0.3]))
    for _ in range(12):
        for _ in range(60):
            controller.record(torch.tensor([50.0]))
        fell.append(bool(controller.rewind()[0]))
        controller.signals()
        controller.act(torch.zeros(1))
        offsets.append(offset(controller))
    assert fell == [True] * 5 + [False] * 7
    assert offsets == pytest.approx([0.3 - CUT * k for k in range(1, 6)] + [0.3] * 7)


def test_a_loss_that_swings_around_zero_neither_alarms_nor_falls() -> None:
    controller = Controller(1, 1, 10_000)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2000):
        if controller.due:
            assert not controller.rewind()[0]
            controller.signals()
            controller.act(torch.zeros(1))
        controller.record(1e-3 + 0.1 * torch.randn(1, generator=generator))
    assert int(controller.guard_events) == 0


def test_without_a_guard_nobody_falls() -> None:
    controller = Controller(1, 1, T, config=ControlConfig().unguarded)
    advance(controller, torch.tensor([math.nan]), 5)
    assert not controller.rewind()[0]


def drive(controller: Controller, steps: range) -> list[Tensor]:
    """A run that depends on everything the controller keeps: its rates and signals come back."""
    seen = []
    for step in steps:
        if controller.due:
            controller.rewind()
            seen.append(controller.signals())
            controller.act(seen[-1][:, 7:13].sum(dim=1) / 4)
        seen.append(controller.rates())
        generator = torch.Generator().manual_seed(step)
        grad, weights = torch.randn(2, 2, 5, generator=generator).unbind()
        loss = torch.rand(2, generator=generator) * (50.0 if step % 29 > 23 else 1.0)
        wanted = controller.now.measured
        controller.record(loss, grad if wanted else None, weights if wanted else None)
    return seen


@pytest.mark.parametrize("cut", [0, 1, 4, 57, 130])
def test_a_saved_run_continues_bit_for_bit(cut: int) -> None:
    one, two = Controller(2, 5, 200), Controller(2, 5, 200)
    drive(one, range(cut))
    buffer = io.BytesIO()
    torch.save(one.state_dict(), buffer)
    buffer.seek(0)
    two.load_state_dict(torch.load(buffer, weights_only=True))
    expected, found = drive(one, range(cut, 200)), drive(two, range(cut, 200))
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(one.guard_events, two.guard_events)
    assert torch.equal(one.rewinds, two.rewinds)
    assert one.guard_events.sum() > 0
    assert one.rewinds.sum() > 0


def test_a_state_in_memory_is_not_changed_by_later_steps() -> None:
    one, two = Controller(2, 5, 200), Controller(2, 5, 200)
    drive(one, range(57))
    state = one.state_dict()
    expected = drive(one, range(57, 200))
    two.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(drive(two, range(57, 200)), expected, strict=True))


@pytest.mark.parametrize("total_steps", [0, -1])
def test_a_horizon_below_one_is_refused(total_steps: int) -> None:
    with pytest.raises(ValueError, match="total_steps"):
        Controller(1, 1, total_steps)


def test_a_state_of_another_schedule_is_refused() -> None:
    state = Controller(1, 1, 100, "wsd").state_dict()
    with pytest.raises(ValueError, match=r"schedule='wsd'.*'cosine'"):
        Controller(1, 1, 100).load_state_dict(state)


@pytest.mark.parametrize(("planned", "wanted"), [(100, 400), (400, 120), (100, None), (None, 400)])
def test_a_state_of_another_horizon_goes_on_at_the_rate_that_it_had(
    planned: int | None, wanted: int | None
) -> None:
    saved = Controller(1, 1, planned)
    for step in range(90):
        if saved.due:
            saved.rewind()
            saved.signals()
            saved.act(torch.tensor([0.1]))
        saved.record(torch.tensor([1.0 - 0.001 * step]))
    resumed = Controller(1, 1, wanted)
    with pytest.warns(UserWarning, match=r"was planned for .* and has made 90; it goes on towards"):
        resumed.load_state_dict(saved.state_dict())
    assert torch.allclose(resumed.rates(), saved.rates())
    assert resumed.step == 90
