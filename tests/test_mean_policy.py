"""The mean of policies is itself a policy."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rl_lr.config import ControlConfig
from rl_lr.mean_policy import mean_policy
from rl_lr.policy import Policy
from rl_lr.signals import NUM_SIGNALS

SIGNALS = torch.randn(50, NUM_SIGNALS, generator=torch.Generator().manual_seed(0))


def test_it_acts_by_the_mean_of_its_members_also_through_a_file(
    tmp_path: Path, make_policy: Callable[[int], Policy]
) -> None:
    members = [make_policy(seed) for seed in range(3)]
    expected = torch.stack([member.mean(SIGNALS) for member in members]).mean(dim=0)
    loaded = Policy.load(mean_policy(members).save(tmp_path))
    torch.testing.assert_close(loaded.mean(SIGNALS), expected)


def test_choices_are_those_of_the_highest_mean_value(make_policy: Callable[[int], Policy]) -> None:
    members = []
    for seed in range(2):
        *hidden, (weight, _) = make_policy(seed).layers
        values = torch.randn(3, weight.shape[1], generator=torch.Generator().manual_seed(seed))
        members.append(Policy((*hidden, (values, torch.zeros(3))), choices=(-1.0, 0.0, 1.0)))
    mean = mean_policy(members)
    total = torch.stack([replace(member, choices=()).mean(SIGNALS) for member in members]).sum(dim=0)
    torch.testing.assert_close(mean.mean(SIGNALS), torch.tensor(mean.choices)[total.argmax(dim=-1)])


def test_one_member_is_its_own_mean(make_policy: Callable[[int], Policy]) -> None:
    policy = make_policy(0)
    torch.testing.assert_close(mean_policy([policy]).mean(SIGNALS), policy.mean(SIGNALS), rtol=0, atol=0)


def test_members_that_are_not_alike_are_refused(make_policy: Callable[[int], Policy]) -> None:
    policy = make_policy(0)
    others = [replace(policy, control=ControlConfig(step=0.5)), replace(policy, layers=policy.layers[1:])]
    for other in (*others, Policy.keep()):
        with pytest.raises(ValueError, match="only policies that were trained alike have a mean"):
            mean_policy([policy, other])
