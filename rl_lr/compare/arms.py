"""The arms of a comparison: everything that sets a learning rate, from the same starts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from rl_lr.compare.pilots import Blind, Replay, Rule, untrained
from rl_lr.compare.runs import Pilot, Track, fly
from rl_lr.compare.workloads import Workload
from rl_lr.config import ControlConfig, DrawConfig
from rl_lr.episodes import VALIDATION, Plan
from rl_lr.policy import Policy
from rl_lr.rollout import Rollout
from rl_lr.schedules import BaseSchedule
from rl_lr.tasks.families import TRAINING

FACTORS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Base rates of every arm, over the workload's centre."""

GRID = tuple(float(10.0**exponent) for exponent in np.linspace(-2.0, 2.0, 9))
"""Base rates that the reference is tuned over, for each of its schedules."""

REFERENCE_SCHEDULES: tuple[BaseSchedule, ...] = ("cosine", "linear", "wsd")
"""Schedules that the reference is tuned over."""


@dataclass(frozen=True)
class Arm:
    """A way of setting the rate that runs on the engine."""

    name: str
    """As tables call it."""
    pilot: Callable[[], Pilot]
    """Builds what flies one group of runs."""
    identity: str = ""
    """What the pilot was made of, beside the name: a policy's checksum."""
    schedule: BaseSchedule = "cosine"
    """Base schedule under it."""
    control: ControlConfig = field(default_factory=ControlConfig)
    """Constants of the control law."""
    factors: Sequence[float] = FACTORS
    """Base rates, over the centre."""

    def run(self, workload: Workload) -> list[Track]:
        """Every start of a workload."""
        return fly(workload, self.factors, self.pilot(), self.schedule, self.control)


def references(control: ControlConfig) -> list[Arm]:
    """The runs that the reference is the best of."""
    return [
        Arm(f"reference {name}", Policy.keep, "", name, control.unguarded, GRID)
        for name in REFERENCE_SCHEDULES
    ]


def arms(policy: Policy) -> list[Arm]:
    """The policy, the schedules that it stands in for, and the controls that would expose a false claim."""
    control, mark = policy.control, policy.sha256
    schedules: tuple[BaseSchedule, ...] = (*REFERENCE_SCHEDULES, "constant")
    return [
        Arm("rl-lr", lambda: policy, mark, control=control),
        *(Arm(name, Policy.keep, "", name, control.unguarded) for name in schedules),
        Arm("untrained policy", lambda: untrained(policy), mark, control=control),
        Arm("blind policy", lambda: Blind(policy), mark, control=control),
        Arm("replayed offsets", lambda: Replay(mean_actions(policy)), mark, control=control),
        Arm("rule on cos(g, u)", Rule, control=control),
    ]


def mean_actions(policy: Policy, groups: int = 10) -> tuple[float, ...]:
    """The policy's mean action at each decision, over fresh short runs of its training families."""
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
