"""Parameter groups apart and together again."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from rl_lr.param_groups import GroupRates


def optimizer(lr: float | torch.Tensor = 0.1) -> torch.optim.Optimizer:
    parameters = [nn.Parameter(torch.ones(size)) for size in (2, 3, 4)]
    groups = [{"params": parameters[:2], "weight_decay": 0.5}, {"params": parameters[2:], "lr": 0.3}]
    return torch.optim.AdamW(groups, lr)


def step(one: torch.optim.Optimizer) -> None:
    for group in one.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    one.step()


def test_each_parameter_gets_a_group_that_is_alike_in_all_else() -> None:
    apart = optimizer()
    GroupRates(apart, split=True)
    assert [len(group["params"]) for group in apart.param_groups] == [1, 1, 1]
    assert [group["lr"] for group in apart.param_groups] == [0.1, 0.1, 0.3]
    assert [group["weight_decay"] for group in apart.param_groups] == [0.5, 0.5, 0.01]


def test_split_groups_train_the_same_bits_and_come_together_as_they_were() -> None:
    whole, apart = optimizer(), optimizer()
    rates = GroupRates(apart, split=True)
    for one in (whole, apart):
        step(one)
        step(one)
    rates.put_back()
    assert [len(group["params"]) for group in apart.param_groups] == [2, 1]
    for ours, theirs in zip(whole.param_groups, apart.param_groups, strict=True):
        for a, b in zip(ours["params"], theirs["params"], strict=True):
            assert torch.equal(a, b)


def test_a_state_of_split_groups_loads_into_an_optimizer_that_never_was() -> None:
    apart, fresh = optimizer(), optimizer()
    rates = GroupRates(apart, split=True)
    step(apart)
    state = apart.state_dict()
    with pytest.raises(ValueError, match="different number of parameter groups"):
        fresh.load_state_dict(state)
    fresh.load_state_dict(state | {"param_groups": rates.joined(state["param_groups"])})
    steps = [fresh.state[p]["step"] for group in fresh.param_groups for p in group["params"]]
    assert [float(count) for count in steps] == [1.0] * 3


def test_rates_that_are_tensors_are_not_shared() -> None:
    apart = optimizer(torch.tensor(0.1))
    GroupRates(apart, split=True)
    apart.param_groups[0]["lr"].fill_(0.7)
    assert float(apart.param_groups[1]["lr"]) == pytest.approx(0.1)


def test_a_group_added_since_stays_as_it_is() -> None:
    apart = optimizer()
    rates = GroupRates(apart, split=True)
    apart.add_param_group({"params": [nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))]})
    rates.put_back()
    assert [len(group["params"]) for group in apart.param_groups] == [2, 1, 2]


def test_one_factor_serves_all_groups_and_a_late_tensor_has_the_geometric_mean() -> None:
    assert GroupRates(optimizer(), split=False).at(0.5, [4.0]) == pytest.approx([0.2, 0.6])
    apart = optimizer()
    rates = GroupRates(apart, split=True)
    apart.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": 1.0})
    assert rates.at(1.0, [1.0, 2.0, 4.0]) == pytest.approx([0.1, 0.2, 1.2, 2.0])


def tenth(one: torch.optim.Optimizer) -> float:
    return float(one.param_groups[0]["lr"]) / 10


def half(one: torch.optim.Optimizer) -> float:
    return 0.5 * float(one.param_groups[1]["lr"])


def discriminative(one: torch.optim.Optimizer) -> float:
    return float(one.param_groups[0]["lr"]) / 2.6


@pytest.mark.parametrize(("share", "base"), [(tenth, 0.01), (half, 0.15), (discriminative, 0.1 / 2.6)])
@pytest.mark.parametrize("tensor", [False, True])
def test_a_later_group_with_a_share_of_the_rate_at_the_time_has_that_share_of_the_base_rate(
    share: Callable[[torch.optim.Optimizer], float], base: float, tensor: bool
) -> None:
    one = optimizer(torch.tensor(0.1) if tensor else 0.1)
    rates = GroupRates(one, split=False)
    rates.write(0.83714, [17.3241])
    one.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": share(one)})
    rates.write_again()
    assert rates.bases[2] == pytest.approx(base)
    assert one.param_groups[2]["lr"] == pytest.approx(base * 0.83714 * 17.3241)


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.0123456])
def test_a_later_group_with_a_rate_of_its_own_has_it_for_a_base_rate(rate: float) -> None:
    one = optimizer()
    rates = GroupRates(one, split=False)
    rates.write(0.83714, [17.3241])
    one.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": rate})
    rates.write_again()
    assert rates.bases == [0.1, 0.3, rate]
