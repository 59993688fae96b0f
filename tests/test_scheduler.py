"""RLScheduler on plain training loops."""

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, AdamW, Optimizer

from rl_lr.config import ControlConfig
from rl_lr.policy import Policy, PolicyFileError
from rl_lr.scheduler import RLScheduler
from rl_lr.schedules import BaseSchedule, base_schedule

MakePolicy = Callable[[int], Policy]
T = 120


def network(width: int = 8) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1))


def loss_of(model: nn.Module, step: int) -> Tensor:
    """Mean squared error on the batch of that step."""
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
    error: Tensor = model(x).squeeze(-1) - x.sum(dim=1).sin()
    return error.square().mean()


def train(model: nn.Module, scheduler: RLScheduler, steps: range) -> list[list[float]]:
    """A plain loop; gives back every step's rates, as the optimizer saw them."""
    optimizer, rates = scheduler.optimizer, []
    for step in steps:
        optimizer.zero_grad()
        loss = loss_of(model, step)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        rates.append([float(group["lr"]) for group in optimizer.param_groups])
        scheduler.step(loss)
    return rates


def weights(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def simple(
    policy: Policy | None = None, lr: float | Tensor = 0.1
) -> tuple[nn.Module, Optimizer, RLScheduler]:
    model = network()
    optimizer = SGD(model.parameters(), lr)
    return model, optimizer, RLScheduler(optimizer, T, policy or Policy.keep())


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "constant"])
@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_keeping_trains_the_same_bits_as_the_base_schedule_by_hand(
    kind: type[SGD] | type[AdamW], schedule: BaseSchedule
) -> None:
    model, by_hand = network(), network()
    train(model, RLScheduler(kind(model.parameters(), 0.03), T, Policy.keep(), schedule), range(T))
    optimizer = kind(by_hand.parameters(), 0.03)
    for step in range(T):
        optimizer.param_groups[0]["lr"] = 0.03 * base_schedule(step, T, schedule, ControlConfig())
        optimizer.zero_grad()
        loss_of(by_hand, step).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert torch.equal(weights(model), weights(by_hand))


def test_a_policy_decides_the_rates_that_the_optimizer_uses(make_policy: MakePolicy) -> None:
    model, optimizer, scheduler = simple(make_policy(1))
    rates, expected = [], []
    for step in range(T):
        expected.append(0.1 * float(scheduler.controller.rates()))
        assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
        rates += train(model, scheduler, range(step, step + 1))[0]
    assert rates == pytest.approx(expected, rel=1e-12)
    kept = [0.1 * base_schedule(step, T, "cosine", ControlConfig()) for step in range(T)]
    assert max(abs(math.log(a / b)) for a, b in zip(rates, kept, strict=True)) > 1.0
    assert scheduler.latest_signals is not None
    assert scheduler.latest_signals.isfinite().all()


def test_deciding_by_hand_is_the_same_as_by_policy(make_policy: MakePolicy) -> None:
    policy = make_policy(1)
    model, _, scheduler = simple(policy)
    train(model, scheduler, range(T))
    other = network()
    manual = RLScheduler(SGD(other.parameters(), 0.1), T, policy=None)
    for step in range(T):
        if manual.due:
            manual.act(policy.act(manual.signals()))
        train(other, manual, range(step, step + 1))
    assert torch.equal(weights(model), weights(other))


def test_groups_keep_their_ratio_and_a_late_one_starts_from_its_own_base(make_policy: MakePolicy) -> None:
    model, late = network(), nn.Parameter(torch.ones(3))
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.003}]
    optimizer = SGD(groups, lr=0.1)
    scheduler = RLScheduler(optimizer, T, make_policy(1))
    early = train(model, scheduler, range(40))
    optimizer.add_param_group({"params": [late], "lr": 0.5})
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    for rates in early + train(model, scheduler, range(40, T)):
        multiplier = rates[0] / 0.1
        assert rates[1:] == pytest.approx(
            [0.003 * multiplier, 0.5 * multiplier, 0.1 * multiplier][: len(rates) - 1]
        )
    assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
    assert len(scheduler.get_last_lr()) == 4


def test_a_tensor_rate_is_filled_in_place() -> None:
    model, optimizer, scheduler = simple(lr=torch.tensor(0.1))
    tensor = optimizer.param_groups[0]["lr"]
    for step, (rate,) in enumerate(train(model, scheduler, range(T))):
        assert rate == pytest.approx(0.1 * base_schedule(step, T, "cosine", ControlConfig()))
    assert optimizer.param_groups[0]["lr"] is tensor


def test_a_late_group_that_shares_the_tensor_rate_starts_from_the_same_base() -> None:
    model, optimizer, scheduler = simple(lr=torch.tensor(0.1))
    train(model, scheduler, range(40))
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    expected = pytest.approx(0.1 * base_schedule(40, T, "cosine", ControlConfig()))
    assert train(model, scheduler, range(40, 41)) == [[expected, expected]]


def test_nothing_else_that_sets_the_rate_has_a_say(make_policy: MakePolicy) -> None:
    (one, _, free), (two, optimizer, meddled) = simple(make_policy(1)), simple(make_policy(1))
    train(one, free, range(T))
    for step in range(T):
        optimizer.param_groups[0]["lr"] = 123.0
        train(two, meddled, range(step, step + 1))
    assert torch.equal(weights(one), weights(two))


def test_skipped_steps_do_not_count() -> None:
    model, optimizer, scheduler = simple()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for step, made in enumerate((1, 1, 2, 2, 3)):
        optimizer.zero_grad()
        loss = loss_of(model, step)
        scaler.scale(loss * (math.inf if step in (1, 3) else 1.0)).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        scheduler.step(loss)
        scheduler.step(loss)
        assert scheduler.controller.step == made
        assert scheduler.get_last_lr() == [0.1 * base_schedule(made, T, "cosine", ControlConfig())]


@pytest.mark.parametrize("cut", [0, 1, 47, 100])
@pytest.mark.parametrize("rebuilt_first", [True, False])
def test_a_resumed_run_trains_the_same_bits(make_policy: MakePolicy, cut: int, rebuilt_first: bool) -> None:
    whole, _, scheduler = simple(make_policy(1))
    expected = train(whole, scheduler, range(T))
    model, optimizer, scheduler = simple(make_policy(1))
    train(model, scheduler, range(cut))
    buffer = io.BytesIO()
    torch.save([item.state_dict() for item in (model, optimizer, scheduler)], buffer)
    buffer.seek(0)
    states = torch.load(buffer, weights_only=True)
    model = network(width=8)
    optimizer = SGD(model.parameters(), 777.0 if rebuilt_first else 0.1)
    if rebuilt_first:
        scheduler = RLScheduler(optimizer, T, make_policy(1))
    model.load_state_dict(states[0])
    optimizer.load_state_dict(states[1])
    if not rebuilt_first:
        scheduler = RLScheduler(optimizer, T, make_policy(1))
    scheduler.load_state_dict(states[2])
    assert train(model, scheduler, range(cut, T)) == expected[cut:]
    assert torch.equal(weights(model), weights(whole))


def state(total_steps: int = T, groups: int = 1, width: int = 8, lr: float = 0.7) -> dict[str, Any]:
    parameters = list(network(width).parameters())
    split = [{"params": parameters[:2]}, {"params": parameters[2:]}] if groups == 2 else parameters
    return RLScheduler(SGD(split, lr), total_steps, Policy.keep()).state_dict()


@pytest.mark.parametrize("other", [state(total_steps=99), state(groups=2), state(width=9)])
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(other: dict[str, Any]) -> None:
    (model, _, scheduler), (untouched, _, reference) = simple(), simple()
    train(model, scheduler, range(20))
    with pytest.raises(ValueError, match="saved"):
        scheduler.load_state_dict(other)
    train(model, scheduler, range(20, T))
    train(untouched, reference, range(T))
    assert torch.equal(weights(model), weights(untouched))


def test_a_closure_trains_the_same_bits(make_policy: MakePolicy) -> None:
    (plain, _, reference), (model, optimizer, scheduler) = simple(make_policy(1)), simple(make_policy(1))
    train(plain, reference, range(T))
    for step in range(T):

        def closure(step: int = step) -> float:
            optimizer.zero_grad()
            loss = loss_of(model, step)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.item()

        scheduler.step(optimizer.step(closure) or 0.0)
    torch.testing.assert_close(weights(model), weights(plain))


def test_several_evaluations_in_one_step_count_once() -> None:
    model, evaluations = network(), 0
    optimizer = LBFGS(model.parameters(), lr=0.5, max_iter=4)
    scheduler = RLScheduler(optimizer, 20, Policy.keep())

    def closure() -> float:
        nonlocal evaluations
        evaluations += 1
        optimizer.zero_grad()
        loss = loss_of(model, 0)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    for _ in range(5):
        scheduler.step(optimizer.step(closure))
    assert scheduler.controller.step == 5
    assert evaluations > 5
