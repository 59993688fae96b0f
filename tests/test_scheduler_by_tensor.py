"""RLScheduler with a rate for each tensor, on plain training loops."""

import math
from typing import Any

import pytest
import torch
from test_scheduler import MakePolicy, T, kept, network, state, train, weights
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from rl_lr.controller import APART
from rl_lr.policy import Policy
from rl_lr.scheduler import RLScheduler


def by_tensor(policy: Policy, **settings: Any) -> tuple[nn.Module, Optimizer, RLScheduler]:
    model = network()
    optimizer = AdamW(model.parameters(), 0.1)
    return model, optimizer, RLScheduler(optimizer, T, policy, granularity="tensor", **settings)


def test_keeping_trains_the_same_bits_with_a_rate_for_each_tensor() -> None:
    plain = network()
    whole = RLScheduler(AdamW(plain.parameters(), 0.1), T, Policy.keep())
    train(plain, whole, range(T))
    model, _, scheduler = by_tensor(Policy.keep())
    train(model, scheduler, range(T))
    assert torch.equal(weights(model), weights(plain))


def test_every_tensor_goes_its_own_way_and_groups_come_back_at_the_end(make_policy: MakePolicy) -> None:
    model, optimizer, scheduler = by_tensor(make_policy(1))
    assert len(optimizer.param_groups) == 4
    rates = train(model, scheduler, range(T))
    assert max(len(set(row)) for row in rates) == 4
    assert scheduler.latest_signals is not None
    assert len(scheduler.latest_signals) == 4
    scheduler.detach()
    (group,) = optimizer.param_groups
    assert (group["lr"], len(group["params"])) == (0.1, 4)


def test_rates_of_tensors_stay_near_their_geometric_mean(make_policy: MakePolicy) -> None:
    rates = train(*by_tensor(make_policy(1))[::2], range(T))
    logs = torch.tensor(rates, dtype=torch.float64).log()
    spread = (logs.amax(1) - logs.amin(1)).max()
    assert 0.5 * APART < float(spread) <= 2 * APART + 1e-9


def test_a_run_with_a_rate_for_each_tensor_resumes_to_the_same_bits(make_policy: MakePolicy) -> None:
    whole, _, reference = by_tensor(make_policy(1))
    train(whole, reference, range(T))
    model, optimizer, scheduler = by_tensor(make_policy(1))
    train(model, scheduler, range(50))
    again, restored, resumed = by_tensor(make_policy(1))
    again.load_state_dict(model.state_dict())
    restored.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    train(again, resumed, range(50, T))
    assert torch.equal(weights(again), weights(whole))


def test_a_late_group_has_the_mean_offset_of_the_tensors(make_policy: MakePolicy) -> None:
    model, optimizer, scheduler = by_tensor(make_policy(1))
    train(model, scheduler, range(60))
    optimizer.add_param_group(
        {"params": [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))], "lr": 0.5}
    )
    mean = math.exp(float(scheduler.controller.offset.mean()))
    late = train(model, scheduler, range(60, 61))[0][4]
    assert late == pytest.approx(0.5 * mean * kept(60) / 0.1, rel=1e-9)


def test_a_state_of_the_other_granularity_is_refused() -> None:
    _, _, scheduler = by_tensor(Policy.keep())
    with pytest.raises(ValueError, match="set a rate for each network, this scheduler for each tensor"):
        scheduler.load_state_dict(state())


def test_a_frozen_parameter_has_a_row_and_may_thaw(make_policy: MakePolicy) -> None:
    model = network()
    first = next(model.parameters())
    first.requires_grad_(False)
    scheduler = RLScheduler(SGD(model.parameters(), 0.1), T, make_policy(1), granularity="tensor")
    train(model, scheduler, range(40))
    first.requires_grad_(True)
    train(model, scheduler, range(40, T))
    assert weights(model).isfinite().all()
    assert first.grad is not None
