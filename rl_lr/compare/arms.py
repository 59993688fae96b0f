"""The arms of a comparison: everything that sets a learning rate, from the same starts."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from rl_lr.compare.controlled import Controlled
from rl_lr.compare.pilots import Blind, Replay, Rule, untrained
from rl_lr.config import ControlConfig, DrawConfig
from rl_lr.episodes import VALIDATION, Plan
from rl_lr.policy import Policy
from rl_lr.rollout import Rollout
from rl_lr.schedules import BaseSchedule
from rl_lr.tasks.families import TRAINING

GRID = tuple(10.0 ** (k / 2) for k in range(-4, 5))
"""Base rates that the reference is tuned over, for each of its schedules: those of the arms, and those between."""

REFERENCE_SCHEDULES: tuple[BaseSchedule, ...] = ("cosine", "linear", "wsd")
"""Schedules that the reference is tuned over."""

REFERENCE_RUNS = len(GRID) * len(REFERENCE_SCHEDULES)
"""What a reference costs, for each workload and seed."""


def references() -> list[Controlled]:
    """The runs that the reference is the best of: every schedule over the whole grid."""
    return [
        Controlled(name, Policy.keep, "", name, ControlConfig().unguarded, GRID)
        for name in REFERENCE_SCHEDULES
    ]


def contenders(policy: Policy) -> list[Controlled]:
    """The policy and its options, the one that Q-learning found, and the controls that would expose a false claim."""
    control, mark = policy.control, policy.sha256
    other = Policy.load("dqn")
    return [
        Controlled("rl-lr", lambda: policy, mark, control=control),
        Controlled("rl-lr, each tensor", lambda: policy, mark, control=control, granularity="tensor"),
        Controlled("rl-lr, averaged", lambda: policy, mark, control=control, average=True),
        Controlled("rl-lr, constant", lambda: policy, mark, "constant", control),
        Controlled("rl-lr, constant, averaged", lambda: policy, mark, "constant", control, average=True),
        Controlled(
            "rl-lr, each tensor, constant, averaged",
            lambda: policy,
            mark,
            "constant",
            control,
            granularity="tensor",
            average=True,
        ),
        Controlled("rl-lr, DQN", lambda: other, other.sha256, control=other.control),
        Controlled("untrained policy", lambda: untrained(policy), mark, control=control),
        Controlled("blind policy", lambda: Blind(policy), mark, control=control),
        Controlled("replayed offsets", partial(_replay, policy), mark, control=control),
        Controlled("rule on cos(g, u)", Rule, control=control),
    ]


def beside(policy: Policy, others: Sequence[Policy]) -> list[Controlled]:
    """Other policies; the one that ships first, if it is not the policy itself.

    Raises:
        ValueError: if two of them have the same name, which is all that tells them apart in a table.
    """
    default = Policy.load("default")
    found = [one for one in dict.fromkeys((default, *others)) if one != policy]
    taken = [one.name for one in contenders(policy)]
    names = [*taken, *(line(one) for one in found)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"Two policies have the line {twice[0]!r}: it has the name of the folder, rename one."
        )
    return [Controlled(line(one), partial(_itself, one), one.sha256, control=one.control) for one in found]


def line(policy: Policy) -> str:
    """What the line of a policy beside another is named: after its folder."""
    return f"rl-lr, {Path(policy.name).name}"


def _itself(policy: Policy) -> Policy:
    return policy


_replayed: dict[str, tuple[float, ...]] = {}  # by checksum: most workloads take less time than these runs


def _replay(policy: Policy) -> Replay:
    mark = policy.sha256
    if mark not in _replayed:
        _replayed[mark] = mean_actions(policy)
    return Replay(_replayed[mark])


def mean_actions(policy: Policy, groups: int = 10) -> tuple[float, ...]:
    """The policy's mean action at each decision, over fresh short runs of the built-in training families."""
    plan = Plan(TRAINING, DrawConfig(100, 190), policy.control, group_size=10, seed=1)
    curves = []
    for group in range(groups):
        rollout = Rollout(plan.group(VALIDATION, group)[0], policy.control)
        actions = []
        while not rollout.done:
            actions.append(policy.act(rollout.signals()))
            rollout.advance(actions[-1])
        curves.append(torch.stack(actions).mean(dim=1))
    return tuple(torch.stack(curves).mean(dim=0).tolist())
