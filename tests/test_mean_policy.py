"""What is made of policies is itself a policy."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from rl_lr.config import ControlConfig
from rl_lr.mean_policy import lifted, mean_policy
from rl_lr.policy import Policy
from rl_lr.signals import NUM_SIGNALS
from rl_lr.signals import SIGNALS as NAMES

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
    others = [
        replace(policy, control=ControlConfig(step=0.5)),
        replace(policy, layers=(policy.layers[0], policy.layers[-1])),
    ]
    for other in (*others, Policy.keep()):
        with pytest.raises(ValueError, match="only policies that were trained alike have a mean"):
            mean_policy([policy, other])


@pytest.mark.parametrize(
    ("in_warmup", "share", "expected"),
    [
        (1.0, 0.0, 0.0),
        (1.0, 0.04, 0.0),
        (0.0, 0.06, 0.07),
        (0.0, 0.5, 0.07),
        (0.0, 0.7, 0.07),
        (0.0, 0.9, 0.0),
        (0.0, 1.0, 0.0),
    ],
)
def test_a_lifted_policy_is_bolder_between_the_warmup_and_the_last_fifth(
    make_policy: Callable[[int], Policy], tmp_path: Path, in_warmup: float, share: float, expected: float
) -> None:
    policy, seen = make_policy(0), SIGNALS.clone()
    seen[:, NAMES.index("in_warmup")], seen[:, NAMES.index("progress")] = in_warmup, 2.0 * share - 1.0
    bolder = Policy.load(lifted(policy, 0.07).save(tmp_path))
    torch.testing.assert_close(
        bolder.mean(seen) - policy.mean(seen), torch.full((50,), expected), rtol=0, atol=0.002
    )


@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_a_policy_of_any_depth_is_lifted_alike(hidden: int) -> None:
    sizes = (NUM_SIGNALS, *([8] * hidden), 1)
    policy = Policy(
        tuple((torch.randn(fan_out, fan_in) / 4, torch.zeros(fan_out)) for fan_in, fan_out in pairwise(sizes))
    )
    seen = torch.zeros(1, NUM_SIGNALS)
    torch.testing.assert_close(
        lifted(policy, 0.3).mean(seen) - policy.mean(seen), torch.tensor([0.3]), rtol=0, atol=1e-5
    )


def test_what_chooses_among_actions_is_not_lifted() -> None:
    policy = Policy.load("dqn")
    assert lifted(policy, 0.1) is policy
    assert lifted(Policy.load("default"), 0.0).sha256 == Policy.load("default").sha256


def test_the_shipped_policy_is_the_one_kept_beside_it_lifted() -> None:
    unlifted = Policy.load(Path(__file__).parents[1] / "docs/results/policies/unlifted")
    shipped = Policy.load("default")
    torch.testing.assert_close(
        lifted(unlifted, shipped.provenance["settings"]["lift"]).mean(SIGNALS), shipped.mean(SIGNALS)
    )
