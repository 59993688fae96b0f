"""Averages of weights: known sequences, noise that they take away, and everything that may befall them."""

import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from rl_lr.averaging import ETA, WeightAverage, fold
from rl_lr.policy import Policy
from rl_lr.scheduler import RLScheduler

T = 200


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))


def scheduled(model: nn.Module, total_steps: int | None = T, **settings: Any) -> RLScheduler:
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    return RLScheduler(
        optimizer, total_steps, Policy.keep(), buffers=model.buffers(), average=True, **settings
    )


def train(model: nn.Module, scheduler: RLScheduler, steps: range) -> None:
    for step in steps:
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        loss = (model(x).squeeze(-1) - x.sum(dim=1).sin()).square().mean()
        scheduler.optimizer.zero_grad()
        loss.backward()
        scheduler.optimizer.step()
        scheduler.step(loss)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def put(parameter: nn.Parameter, average: WeightAverage, values: list[float]) -> None:
    """As if these were the weights after each step."""
    for value in values:
        with torch.no_grad():
            parameter.fill_(value)
        average.update()


# --- arithmetic ------------------------------------------------------------------------------


def test_the_average_of_a_known_sequence_is_the_sum_with_the_papers_weights() -> None:
    """The weight of step s at time t is α_s · Π (1 - α_k) for s < k ≤ t, in closed form by gamma functions."""
    values, average = [math.sin(step) for step in range(1, 301)], [torch.zeros((), dtype=torch.float64)]
    for step, value in enumerate(values, start=1):
        fold(average, [torch.tensor(value, dtype=torch.float64)], step)

    def share_until(step: int, time: int) -> float:  # Π (k - 1) / (k + η) for step < k ≤ time
        up, down = (time, step + ETA + 1), (step, time + ETA + 1)
        return math.exp(sum(map(math.lgamma, up)) - sum(map(math.lgamma, down)))

    shares = [0.0] + [share_until(step, 300) for step in range(1, 301)]
    expected = sum((shares[s] - shares[s - 1]) * values[s - 1] for s in range(1, 301))
    assert float(average[0]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("length", [1000, 10_000])
def test_half_of_the_average_is_from_the_last_two_per_cent_of_a_run_of_any_length(length: int) -> None:
    average = [torch.zeros((), dtype=torch.float64)]
    for step in range(1, length + 1):
        fold(average, [torch.tensor(float(step > 0.98 * length), dtype=torch.float64)], step)
    assert float(average[0]) == pytest.approx(0.5, abs=0.02)


def test_under_a_constant_rate_the_average_takes_gradient_noise_away() -> None:
    """SGD on w²/2 with noise of variance 1 hovers at a variance of lr / (2 - lr); its average far below."""
    weights = nn.Parameter(torch.full((1000,), 5.0))
    optimizer = SGD([weights], 0.2)
    average = WeightAverage(optimizer)
    noise = torch.Generator().manual_seed(0)
    for _ in range(2000):
        weights.grad = weights.detach() + torch.randn(1000, generator=noise)
        optimizer.step()
        average.update()
    last = float(weights.detach().square().mean())
    assert last == pytest.approx(0.2 / 1.8, rel=0.15)
    average.keep()
    assert float(weights.detach().square().mean()) < 0.25 * last


def test_half_precision_weights_are_averaged_in_full_precision() -> None:
    weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    average = WeightAverage(SGD([weight], 0.1))
    put(weight, average, [1.0] * 3000 + [1.25] * 2000)  # each change of the average is too small for bfloat16
    average.keep()
    assert float(weight.detach()) == 1.25


# --- in and out ------------------------------------------------------------------------------


def test_averages_come_in_for_a_while_with_their_running_statistics_and_training_does_not_notice() -> None:
    whole, model = network(), network()
    train(whole, scheduled(whole), range(T))
    scheduler = scheduled(model)
    train(model, scheduler, range(100))
    trained = state(model)
    with scheduler.averaged():
        inside = state(model)
        with scheduler.averaged():
            assert same(state(model), inside)
        assert same(state(model), inside)
    assert same(state(model), trained)
    moved = [name for name in trained if not torch.equal(trained[name], inside[name])]
    assert set(trained) - set(moved) == {"1.num_batches_tracked"}
    with pytest.raises(ZeroDivisionError), scheduler.averaged():
        raise ZeroDivisionError
    assert same(state(model), trained)
    train(model, scheduler, range(100, T))
    assert same(state(model), state(whole))


def test_averages_that_are_kept_are_the_weights() -> None:
    model = network()
    scheduler = scheduled(model)
    train(model, scheduler, range(T))
    with scheduler.averaged():
        inside = state(model)
    scheduler.keep_average()
    assert same(state(model), inside)


def test_a_step_on_averaged_weights_is_refused_because_it_would_be_lost() -> None:
    model = network()
    scheduler = scheduled(model)
    with pytest.raises(RuntimeError, match=r"train outside of scheduler.averaged\(\)"), scheduler.averaged():
        train(model, scheduler, range(1))


def test_without_an_average_there_is_none_to_put_in() -> None:
    scheduler = RLScheduler(SGD(network().parameters(), 0.1), T, Policy.keep())
    for use in (scheduler.averaged, scheduler.keep_average):
        with pytest.raises(ValueError, match="build it with average=True"):
            use()
    assert "average" not in scheduler.state_dict()


@pytest.mark.parametrize("granularity", ["network", "tensor"])
def test_weights_that_are_trained_are_the_same_bits_with_and_without_an_average(granularity: Any) -> None:
    ends = []
    for average in (False, True):
        model = network()
        optimizer = AdamW(model.parameters(), 1e-3)
        scheduler = RLScheduler(optimizer, T, granularity=granularity, average=average)
        train(model, scheduler, range(T))
        ends.append(state(model))
    assert same(*ends)


# --- what may befall it ----------------------------------------------------------------------


def bare(*parameters: nn.Parameter) -> tuple[Optimizer, WeightAverage]:
    optimizer = SGD(parameters, 0.1)
    return optimizer, WeightAverage(optimizer)


def test_what_comes_or_thaws_later_begins_as_it_is_then_and_what_is_frozen_takes_no_memory() -> None:
    first, frozen = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.full((1,), 7.0), requires_grad=False)
    optimizer, average = bare(first, frozen)
    put(first, average, [1.0] * 10)
    assert average.state_dict()["averages"][1] is None
    late = nn.Parameter(torch.full((1,), 3.0))
    optimizer.add_param_group({"params": [late]})
    frozen.requires_grad_(True)
    put(late, average, [3.0])
    put(late, average, [5.0])
    average.keep()
    assert [float(p.detach()) for p in (first, frozen)] == [1.0, 7.0]
    assert float(late.detach()) == pytest.approx(3.0 + 2.0 * (ETA + 1) / (12 + ETA))


def test_sparse_gradients_and_complex_weights_are_averaged_like_others() -> None:
    table, phases = nn.Embedding(50, 2, sparse=True), nn.Parameter(torch.ones(4, dtype=torch.cfloat))
    optimizer = SGD([table.weight, phases], 0.1)
    scheduler = RLScheduler(optimizer, None, Policy.keep(), average=True)
    for step in range(60):
        optimizer.zero_grad()
        loss = table(torch.tensor([step % 50, 7])).square().sum() + phases.abs().square().sum()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
    before = phases.detach().clone(), table.weight.detach().clone()
    with scheduler.averaged():
        assert (phases.detach().abs() > before[0].abs()).all()
        moved = (table.weight.detach() != before[1]).all(dim=1)
    assert bool(moved[7])
    assert torch.equal(table.weight.detach(), before[1])


def test_where_the_guard_takes_a_run_back_the_average_forgets_what_was_thrown_away() -> None:
    model = network()
    scheduler = scheduled(model)
    train(model, scheduler, range(100))
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    step, before = 100, int(scheduler.controller.rewinds)
    while int(scheduler.controller.rewinds) == before:
        train(model, scheduler, range(step, step := step + 1))
    restored = state(model)
    with scheduler.averaged():
        assert same(state(model), restored)
    train(model, scheduler, range(step, T))
    with scheduler.averaged():
        assert all(value.isfinite().all() for value in state(model).values())
        assert not same(state(model), restored)


@pytest.mark.parametrize("cut", [0, 1, 47, 100])
def test_a_resumed_run_ends_with_the_same_bits_and_the_same_average(cut: int) -> None:
    def end(scheduler: RLScheduler, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        with scheduler.averaged():
            averaged = state(model)
        return state(model), averaged

    whole = network()
    expected = scheduled(whole)
    train(whole, expected, range(T))
    model = network()
    scheduler, file = scheduled(model), io.BytesIO()
    train(model, scheduler, range(cut))
    torch.save([model.state_dict(), scheduler.optimizer.state_dict(), scheduler.state_dict()], file)
    again = network()
    nn.init.zeros_(next(again.parameters()))
    scheduler = scheduled(again)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    for restored, part in zip((again, scheduler.optimizer, scheduler), saved, strict=True):
        restored.load_state_dict(part)  # type: ignore[attr-defined]
    train(again, scheduler, range(cut, T))
    for ours, theirs in zip(end(scheduler, again), end(expected, whole), strict=True):
        assert same(ours, theirs)


def test_a_state_that_does_not_fit_is_refused_and_one_without_an_average_begins_one() -> None:
    model = network()
    scheduler = scheduled(model)
    train(model, scheduler, range(50))
    saved = scheduler.state_dict()
    without = RLScheduler(SGD(network().parameters(), 0.1), T, Policy.keep())
    with pytest.raises(ValueError, match="kept an average of the weights, this scheduler keeps none"):
        without.load_state_dict(saved)
    unbuffered = RLScheduler(SGD(network().parameters(), 0.1), T, Policy.keep(), average=True)
    with pytest.raises(ValueError, match="averages are of other weights or buffers"):
        unbuffered.load_state_dict(saved)
    del saved["average"]
    late = network()
    begun = scheduled(late)
    late.load_state_dict(model.state_dict())
    begun.load_state_dict(saved)
    train(late, begun, range(50, 51))
    trained = state(late)
    with begun.averaged():
        assert same(state(late), trained)


def test_a_run_of_unknown_length_ends_lower_by_its_average() -> None:
    def problem(seed: int, count: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(count, 4, generator=generator)
        return x, x.sum(dim=1).sin() + torch.randn(count, generator=generator)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = AdamW(model.parameters(), 1e-2)
    scheduler = RLScheduler(optimizer, None, average=True)
    for step in range(1500):
        x, y = problem(step, 16)
        loss = (model(x).squeeze(-1) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)

    def excess() -> float:
        x, _ = problem(10_000, 20_000)
        return float((model(x).squeeze(-1) - x.sum(dim=1).sin()).square().mean().detach())

    last = excess()
    scheduler.keep_average()
    assert excess() < 0.7 * last
