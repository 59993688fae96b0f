"""Signals: known answers on analytic runs, invariances, and any input whatever."""

import io
import math
from collections.abc import Callable, Iterable
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rl_lr.signals import CLIP, NUM_SIGNALS, SIGNALS, Position, Signals

Step = tuple[Tensor, Tensor, Tensor]  # loss [runs], gradient [runs, width], weights [runs, width]
PLACED = ("progress", "log_schedule", "schedule_slope", "in_warmup", "offset", "last_action")


def position(runs: int = 1) -> Position:
    zeros = torch.zeros(runs, dtype=torch.float64)
    return Position(0.25, -0.7, 0.1, False, zeros + 0.5, zeros - 1.0)


def read(signals: Signals, steps: Iterable[Step]) -> Tensor:
    for loss, grad, weights in steps:
        signals.record(loss, grad, weights)
    return signals.read(position(signals.runs))


def value(table: Tensor, name: str) -> float:
    return float(table[0, SIGNALS.index(name)])


def descent(eta: float, curvature: float = 1.0, steps: int = 4) -> list[Step]:
    """Gradient descent on ½ h |w|² from (3, 4), without noise."""
    points = [torch.tensor([[3.0, 4.0]]) * (1 - eta * curvature) ** t for t in range(steps)]
    return [(0.5 * curvature * w.square().sum(1), curvature * w, w) for w in points]


def noisy(steps: int, runs: int = 1, width: int = 8, seed: int = 0) -> list[Step]:
    """A run with gradient noise, curvatures between 0.1 and 1, positive losses."""
    generator = torch.Generator().manual_seed(seed)
    hessian, record = torch.linspace(0.1, 1.0, width), []
    weights = torch.randn(runs, width, generator=generator)
    for _ in range(steps):
        noise = 0.2 * torch.randn(runs, width, generator=generator)
        record.append(((hessian * weights**2 + noise**2).sum(1), hessian * weights + noise, weights))
        weights = weights - 0.3 * record[-1][1]
    return record


def plain(losses: Iterable[float]) -> list[Step]:
    return [(torch.tensor([loss]), torch.zeros(1, 2), torch.ones(1, 2)) for loss in losses]


@pytest.mark.parametrize("steps", [10, 100])  # fewer than are summed up at once, and more
def test_a_loss_that_all_runs_share_may_be_a_plain_number(steps: int) -> None:
    losses = [2.0 + math.sin(step) for step in range(steps)]
    tensors, numbers, mixed = (Signals(3, 2) for _ in range(3))
    for step, loss in enumerate([*losses, math.nan]):
        each = torch.full((3,), loss, dtype=torch.float64)
        tensors.record(each, None, None)
        numbers.record(loss, None, None)
        mixed.record(loss if step % 3 else each, None, None)
    expected = tensors.read(position(3))
    assert torch.equal(numbers.read(position(3)), expected)
    torch.testing.assert_close(mixed.read(position(3)), expected)


def saved(signals: Signals) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(signals.state_dict(), buffer)
    buffer.seek(0)
    return buffer


def drop(ratio: float) -> float:
    return math.asinh(4 * math.log(ratio)) / 2


@pytest.mark.parametrize("eta", [1e-3, 0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("h", [0.01, 1.0, 100.0])
def test_curvature_is_the_step_in_units_of_the_exact_minimum(eta: float, h: float) -> None:
    assert value(read(Signals(1, 2), descent(eta / h, h)), "curvature") == pytest.approx(eta, abs=1e-3)


@pytest.mark.parametrize(("eta", "sign"), [(0.01, 1.0), (0.9, 1.0), (1.1, -1.0), (1.9, -1.0)])
def test_hypergradient_is_positive_before_the_bottom_and_negative_past_it(eta: float, sign: float) -> None:
    table = read(Signals(1, 2), descent(eta))
    assert value(table, "hypergradient") == pytest.approx(sign * math.asinh(20) / 2, rel=1e-4)
    assert value(table, "own_descent") == pytest.approx(math.asinh(20) / 2, rel=1e-4)
    assert value(table, "gradient_memory") == pytest.approx(sign * math.asinh(20) / 2, rel=1e-4)


def test_a_constant_gradient_walks_straight_without_noise() -> None:
    grad, signals = torch.tensor([[0.6, 0.8]]), Signals(1, 2)
    walk = [(torch.tensor([9.0 - t]), grad, (1000.0 - 0.5 * t) * grad) for t in range(10)]
    for table in (read(signals, walk[:5]), read(signals, walk[5:])):
        assert value(table, "straightness") == pytest.approx(1.0, abs=1e-3)
        assert value(table, "gradient_snr") == pytest.approx(0.0, abs=1e-3)
        assert value(table, "curvature") == pytest.approx(0.0, abs=1e-3)
        assert value(table, "relative_update") == pytest.approx((math.log(0.5 / 998) + 6) / 3, abs=1e-2)
    assert value(table, "window_momentum") == pytest.approx(math.asinh(20) / 2, abs=1e-3)
    assert value(table, "window_hypergradient") == pytest.approx(math.asinh(20) / 2, abs=1e-3)


def test_gradient_changes_are_logs_whatever_the_length_of_a_window() -> None:
    signals, loss, ones = Signals(1, 2), torch.ones(1), torch.ones(1, 2)
    tables = []
    for size, steps in ((8.0, 3), (4.0, 7), (2.0, 5)):
        signals.record(loss, None, None)  # so that no pair spans two windows
        tables.append(read(signals, [(loss, size * ones, ones)] * steps))
    assert value(tables[-1], "gradient_change_1") == pytest.approx(math.tanh(-math.log(2)))
    assert value(tables[-1], "gradient_change_all") == pytest.approx(-math.log(4) / 3)


def test_halving_the_loss_reads_as_log_two_per_window() -> None:
    signals = Signals(1, 2)
    tables = [read(signals, plain([2.0**-k] * 2)) for k in range(7)]
    assert value(tables[0], "improvement_1") == 0.0
    assert value(tables[-1], "improvement_1") == pytest.approx(drop(2.0))
    assert value(tables[-1], "improvement_5") == pytest.approx(drop(2.0**5))
    assert value(tables[-1], "improvement_all") == pytest.approx(drop(2.0**6))
    assert value(tables[-1], "above_best") == 0.0
    assert value(read(signals, plain([2.0**-4])), "above_best") == pytest.approx(drop(4.0))


def test_loss_noise_and_trend_are_in_units_of_the_spread() -> None:
    signals = Signals(1, 2)
    first = read(signals, plain([1.0, math.nan, 3.0, math.inf]))  # what is not finite is left out
    assert value(first, "loss_noise") == pytest.approx(math.log(0.5) / 4)
    trend = value(read(signals, plain([0.5, 2.5])), "loss_trend")
    assert trend == pytest.approx(math.asinh(0.5) / 2)  # 0.5 lower; each mean is known to ±√0.5


def test_slow_signals_are_running_averages_that_skip_a_bad_window() -> None:
    signals, lost, slow = Signals(1, 2), torch.full((1, 2), math.nan), []
    for eta in (0.4, 0.8, math.nan, 0.8):
        bad = [(torch.tensor([math.nan]), lost, lost)] * 4
        table = read(signals, bad if math.isnan(eta) else descent(eta))
        signals.record(torch.ones(1), None, None)  # so that no pair spans two windows
        slow.append(value(table, "curvature_slow"))
    assert slow == pytest.approx([0.4, 0.5, 0.5, 0.575], abs=1e-4)


def test_an_empty_window_reads_zero_beside_its_position() -> None:
    table = Signals(2, 3).read(position(2))
    assert (table.shape, table.dtype) == ((2, NUM_SIGNALS), torch.float32)
    assert table[:, len(PLACED) :].eq(0).all()
    torch.testing.assert_close(table[1, : len(PLACED)], torch.tensor([-0.5, -0.1, 0.1, 0.0, 0.5, -1.0]))
    assert SIGNALS[: len(PLACED)] == PLACED


def test_steps_that_are_not_neighbours_make_no_pair() -> None:
    signals, steps = Signals(1, 2), descent(0.1)
    signals.record(*steps[0])
    signals.record(steps[1][0], None, None)
    assert value(read(signals, steps[2:3]), "curvature") == 0.0
    assert value(read(signals, steps[3:]), "curvature") == pytest.approx(0.1, abs=1e-4)


@pytest.mark.parametrize(
    ("loss_factor", "weight_factor"),
    [(1e-6, 1.0), (7.0, 1.0), (1e6, 1.0), (1.0, 1e-4), (1.0, 7.0), (1.0, 1e4), (0.3, 30.0)],
)
def test_rescaling_loss_or_weights_changes_no_signal(loss_factor: float, weight_factor: float) -> None:
    one, other, steps = Signals(1, 8), Signals(1, 8), noisy(12)
    for start in (0, 4, 8):
        window = steps[start : start + 4]
        scaled = [
            (loss_factor * loss.double(), loss_factor / weight_factor * grad, weight_factor * weights)
            for loss, grad, weights in window
        ]
        torch.testing.assert_close(read(other, scaled), read(one, window), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("part", "bad"), [*product((0, 1, 2), (math.nan, math.inf, -math.inf))])
def test_a_bad_run_leaves_the_others_bit_for_bit(part: int, bad: float) -> None:
    clean, mixed = Signals(3, 8), Signals(3, 8)
    for index, step in enumerate(noisy(12, runs=3)):
        clean.record(*step)
        spoiled = [tensor.clone() for tensor in step]
        if index in (0, 5, 6):
            spoiled[part][1] = bad
        mixed.record(*spoiled)
        if index % 3 == 2:
            expected, table = clean.read(position(3)), mixed.read(position(3))
            assert torch.equal(table[[0, 2]], expected[[0, 2]])
            assert table.isfinite().all()


def test_a_run_is_measured_again_after_a_bad_window() -> None:
    signals, steps = Signals(1, 2), descent(0.1)
    read(signals, [(torch.tensor([math.nan]), torch.full((1, 2), math.nan), steps[0][2])] * 3)
    assert value(read(signals, steps), "curvature") == pytest.approx(0.1, abs=1e-4)
    assert value(read(signals, steps[3:]), "improvement_all") > 0


def test_a_loss_falling_through_zero_keeps_improving() -> None:
    signals = Signals(1, 2)
    tables = [read(signals, plain([loss])) for loss in (2.0, 1.0, 0.0, -1.0, -2.0)]
    assert torch.cat(tables).isfinite().all()
    assert all(value(table, "improvement_1") > 0 for table in tables[1:])
    assert value(read(signals, plain([1.0])), "above_best") > 0


@given(st.lists(st.lists(st.lists(st.floats(), min_size=5, max_size=5), max_size=4), max_size=4))
def test_any_floats_give_finite_signals_within_the_clip(windows: list[list[list[float]]]) -> None:
    signals = Signals(1, 2)
    for rows in windows:
        numbers = [torch.tensor(row, dtype=torch.float64) for row in rows]
        table = read(signals, [(n[:1], n[None, 1:3].float(), n[None, 3:].float()) for n in numbers])
        assert table.abs().max() <= CLIP  # and so no NaN


@pytest.mark.parametrize("cut", [0, 1, 4, 6])
def test_a_saved_state_continues_bit_for_bit(cut: int) -> None:
    one, two, steps = Signals(2, 8), Signals(2, 8), noisy(12, runs=2)
    for index, step in enumerate(steps):
        if index == cut:
            two.load_state_dict(torch.load(saved(one), weights_only=True))
        one.record(*step)
        if index >= cut:
            two.record(*step)
        if index % 4 == 3:
            table = one.read(position(2))
            assert index < cut or torch.equal(two.read(position(2)), table)


def test_what_is_forgotten_of_one_run_leaves_no_trace_and_no_other_run_notices() -> None:
    plain, falling = Signals(2, 8), Signals(2, 8)
    first, second, third = noisy(12, 2, seed=1), noisy(12, 2, seed=2), noisy(12, 2, seed=3)
    for signals in (plain, falling):
        read(signals, first)
    for loss, grad, weights in second:
        plain.record(loss, grad, weights)
        falling.record(loss * torch.tensor([1.0, 1e9]), grad * torch.tensor([[1.0], [1e9]]), weights)
    falling.forget(torch.tensor([False, True]))
    ours, theirs = falling.read(position(2)), plain.read(position(2))
    assert torch.equal(ours[0], theirs[0])
    names = ("improvement_1", "loss_noise", "curvature", "gradient_snr", "relative_update")
    assert [float(ours[1, SIGNALS.index(name)]) for name in names] == [0.0] * len(names)
    ours, theirs = read(falling, third), read(plain, third)
    assert torch.equal(ours[0], theirs[0])
    assert ours[1].abs().max() < CLIP


@pytest.mark.parametrize("measured", [lambda t: True, lambda t: t % 7 < 2])
def test_a_straight_path_is_straight_however_few_of_its_steps_are_measured(
    measured: Callable[[int], bool],
) -> None:
    signals, weights = Signals(1, 3), torch.zeros(1, 3)
    readings = []
    for t in range(84):
        sketch = (torch.ones(1, 3), weights.clone()) if measured(t) else (None, None)
        signals.record(torch.ones(1), *sketch)
        weights = weights - 0.1
        if t % 28 == 27:
            readings.append(value(signals.read(position()), "straightness"))
    assert readings == pytest.approx([1.0] * 3, abs=1e-5)
