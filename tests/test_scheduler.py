"""RLScheduler on plain training loops."""

import io
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

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


def differentiate(model: nn.Module, optimizer: Optimizer, step: int, factor: float = 1.0) -> Tensor:
    optimizer.zero_grad()
    loss = loss_of(model, step)
    torch.autograd.backward(loss * factor)
    return loss.detach()


def train(model: nn.Module, scheduler: RLScheduler, steps: range) -> list[list[float]]:
    """A plain loop; gives back every step's rates, as the optimizer saw them."""
    optimizer, rates = scheduler.optimizer, []
    for step in steps:
        loss = differentiate(model, optimizer, step)
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


def kept(step: int, name: BaseSchedule = "cosine", base: float = 0.1) -> float:
    """The rate at that step where the policy does nothing."""
    return base * base_schedule(step, T, name, ControlConfig())


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd", "constant"])
@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_keeping_trains_the_bits_of_the_base_schedule_by_hand(
    kind: type[SGD] | type[AdamW], name: BaseSchedule
) -> None:
    model, by_hand = network(), network()
    train(model, RLScheduler(kind(model.parameters(), 0.03), T, Policy.keep(), name), range(T))
    optimizer = kind(by_hand.parameters(), 0.03)
    for step in range(T):
        optimizer.param_groups[0]["lr"] = kept(step, name, 0.03)
        differentiate(by_hand, optimizer, step)
        optimizer.step()
    assert torch.equal(weights(model), weights(by_hand))


def test_the_policy_alone_decides_the_rates_that_the_optimizer_uses(make_policy: MakePolicy) -> None:
    model, optimizer, scheduler = simple(make_policy(1))
    detours = []
    for step in range(T):
        expected = 0.1 * float(scheduler.controller.rates())
        assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
        optimizer.param_groups[0]["lr"] = 123.0
        assert train(model, scheduler, range(step, step + 1)) == [[pytest.approx(expected, rel=1e-12)]]
        detours.append(math.log(expected / kept(step)))
    assert max(detours) - min(detours) > 1.0
    assert scheduler.latest_signals is not None
    assert scheduler.latest_signals.isfinite().all()


def test_groups_keep_their_ratio_and_a_late_one_starts_from_its_own_base(make_policy: MakePolicy) -> None:
    model, late = network(), nn.Parameter(torch.ones(3))
    optimizer = SGD(model[0].parameters(), lr=0.1)
    optimizer.add_param_group({"params": model[2].parameters(), "lr": 0.003})
    scheduler = RLScheduler(optimizer, T, make_policy(1))
    early = train(model, scheduler, range(40))
    optimizer.add_param_group({"params": [late], "lr": 0.5})
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    for rates in early + train(model, scheduler, range(40, T)):
        ratios = [rate / rates[0] for rate in rates]
        assert ratios == pytest.approx([1.0, 0.03, 5.0, 1.0][: len(rates)])
    assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
    assert len(scheduler.get_last_lr()) == 4


def test_a_tensor_rate_is_filled_in_place() -> None:
    model, optimizer, scheduler = simple(lr=torch.tensor(0.1))
    tensor = optimizer.param_groups[0]["lr"]
    for step, (rate,) in enumerate(train(model, scheduler, range(T))):
        assert rate == pytest.approx(kept(step))
    assert optimizer.param_groups[0]["lr"] is tensor


def test_a_late_group_that_shares_the_tensor_rate_starts_from_the_same_base() -> None:
    model, optimizer, scheduler = simple(lr=torch.tensor(0.1))
    train(model, scheduler, range(40))
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    assert train(model, scheduler, range(40, 41)) == [pytest.approx([kept(40)] * 2)]


def test_skipped_steps_do_not_count() -> None:
    model, optimizer, scheduler = simple()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for step, made in enumerate((1, 1, 2, 2, 3)):
        overflow = math.inf if step in (1, 3) else 1.0
        loss = differentiate(model, optimizer, step, overflow * scaler.get_scale())
        scaler.scale(loss)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step(loss)
        scheduler.step(loss)
        assert scheduler.controller.step == made
        assert scheduler.get_last_lr() == [kept(made)]


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
    if rebuilt_first:
        model, optimizer, scheduler = simple(make_policy(1), lr=777.0)
        optimizer.load_state_dict(states[1])
    else:
        model = network()
        optimizer = SGD(model.parameters(), 777.0)
        optimizer.load_state_dict(states[1])
        scheduler = RLScheduler(optimizer, T, make_policy(1))
    model.load_state_dict(states[0])
    scheduler.load_state_dict(states[2])
    assert train(model, scheduler, range(cut, T)) == expected[cut:]
    assert torch.equal(weights(model), weights(whole))


def state(total_steps: int = T, groups: int = 1, width: int = 8) -> dict[str, Any]:
    parameters = list(network(width).parameters())
    split = [{"params": parameters[:2]}, {"params": parameters[2:]}][:groups]
    return RLScheduler(SGD(split, 0.7), total_steps, Policy.keep()).state_dict()


@pytest.mark.parametrize("other", [{"groups": 2}, {"width": 9}], ids=str)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(other: dict[str, int]) -> None:
    (model, _, scheduler), (untouched, _, reference) = simple(), simple()
    train(model, scheduler, range(20))
    with pytest.raises(ValueError, match="saved"):
        scheduler.load_state_dict(state(**other))
    assert train(model, scheduler, range(20, T)) == train(untouched, reference, range(T))[20:]


def to_decision(model: nn.Module, scheduler: RLScheduler) -> Tensor:
    """Train up to the next decision; the weights there."""
    train(model, scheduler, range(1))
    while not scheduler.controller.just_decided:
        train(model, scheduler, range(1))
    return weights(model).clone()


@pytest.mark.parametrize("on_divergence", ["restore", "cut"])
def test_a_run_whose_weights_are_lost_goes_back_to_where_it_was_surely_healthy_or_not(
    on_divergence: Any,
) -> None:
    model = network()
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    scheduler = RLScheduler(optimizer, T, Policy.keep(), on_divergence=on_divergence)
    train(model, scheduler, range(40))
    healthy, _ = to_decision(model, scheduler), to_decision(model, scheduler)
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    after = to_decision(model, scheduler)
    if on_divergence == "cut":
        assert after.isnan().any()
    else:
        assert torch.equal(after, healthy)
        assert int(scheduler.controller.rewinds) == 1
        assert float(scheduler.controller.offset) == pytest.approx(-math.log(10.0))


def test_a_closure_trains_the_same_bits(make_policy: MakePolicy) -> None:
    (plain, _, reference), (model, optimizer, scheduler) = simple(make_policy(1)), simple(make_policy(1))
    train(plain, reference, range(T))
    for step in range(T):
        closure = partial(differentiate, model, optimizer, step)
        scheduler.step(optimizer.step(closure))  # type: ignore[arg-type]
    assert torch.equal(weights(model), weights(plain))


def test_a_long_run_is_measured_only_now_and_then() -> None:
    model = network()
    scheduler = RLScheduler(SGD(model.parameters(), 0.1), 12_000, Policy.keep())
    measured = []
    for step in range(26):
        train(model, scheduler, range(step, step + 1))
        measured.append(scheduler.state_dict()["controller"]["signals"]["before"] is not None)
    assert measured == [True] * 4 + [False] * 21 + [True]


def test_past_its_horizon_a_run_stays_at_the_last_rate() -> None:
    model, _, scheduler = simple()
    assert train(model, scheduler, range(T + 5))[T - 1 :] == [[kept(T - 1)]] * 6


def test_release_returns_to_the_base_schedule(make_policy: MakePolicy) -> None:
    model, _, scheduler = simple(make_policy(1))
    train(model, scheduler, range(40))
    scheduler.release()
    assert train(model, scheduler, range(40, T)) == [[kept(step)] for step in range(40, T)]


def test_detach_puts_the_base_rates_back_and_lets_go(make_policy: MakePolicy) -> None:
    model, optimizer, scheduler = simple(make_policy(1))
    before = SGD(model.parameters(), 0.1).state_dict()
    train(model, scheduler, range(40))
    scheduler.detach()
    assert optimizer.state_dict() == before
    assert train(model, scheduler, range(40, 50)) == [[0.1]] * 10
    assert scheduler.controller.step == 40


def test_sparse_complex_unused_and_half_precision_parameters_are_no_obstacle() -> None:
    table, half = nn.Embedding(3000, 2, sparse=True), nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = SGD([table.weight, half, nn.Parameter(torch.ones(4, dtype=torch.cfloat))], lr=0.1)
    scheduler = RLScheduler(optimizer, T, Policy.keep())
    for step in range(T):
        optimizer.zero_grad()
        loss = table(torch.tensor([step, step, 7])).square().sum() + half.square().sum().float()
        torch.autograd.backward(loss)
        optimizer.step()
        scheduler.step(loss)
    assert scheduler.latest_signals is not None
    assert scheduler.latest_signals[0, 7:].count_nonzero() > 10


@pytest.mark.parametrize(
    ("lr", "trainable", "change", "error"),
    [
        (math.nan, True, {}, "base learning rate of a parameter group is nan"),
        (0.0, True, {}, "base learning rate of a parameter group is 0"),
        (0.1, False, {}, "no trainable parameters"),
        (0.1, True, {"total_steps": 0}, "total_steps is 0"),
        (0.1, True, {"total_steps": -5}, "total_steps is -5"),
        (0.1, True, {"policy": "no-such-policy"}, "no policy 'no-such-policy'"),
        (0.1, True, {"base_schedule": "cosin"}, "cosine, linear, wsd, constant"),
        (0.1, True, {"total_steps": 0, "granularity": "tensor"}, "total_steps is 0"),
        (0.1, True, {"granularity": "layer"}, "granularity is 'layer': choose 'network'"),
        (0.1, True, {"on_divergence": "cry"}, "on_divergence is 'cry': choose 'restore' or 'cut'"),
    ],
)
def test_bad_input_is_refused_and_leaves_the_optimizer_alone(
    lr: float, trainable: bool, change: dict[str, Any], error: str
) -> None:
    optimizer = SGD(network().requires_grad_(trainable).parameters(), lr)
    before = str(optimizer.state_dict())
    arguments: dict[str, Any] = {"total_steps": T, "policy": Policy.keep()} | change
    with pytest.raises(PolicyFileError if "policy" in change else ValueError, match=error):
        RLScheduler(optimizer, **arguments)
    assert str(optimizer.state_dict()) == before


def test_a_loss_that_is_no_scalar_is_refused_and_may_be_given_again() -> None:
    model, optimizer, scheduler = simple()
    loss = differentiate(model, optimizer, 0)
    optimizer.step()
    with pytest.raises(ValueError, match="scalar"):
        scheduler.step(loss.expand(3))
    scheduler.step(loss)
    assert scheduler.controller.step == 1
