"""How good a policy is on runs kept apart from its training, while it trains."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from rl_lr.config import ControlConfig, DrawConfig
from rl_lr.policy import Policy
from rl_lr.reward import score
from rl_lr.rollout import Draw, Rollout, draw
from rl_lr.tasks.task import Family

_BINS = ((-math.inf, -3.0, "x0.01"), (-3.0, 3.0, "x1"), (3.0, math.inf, "x100"))  # log factor, nats


class Validation:
    """The same runs under every policy, against the base schedule at the same rate and at its best.

    Args:
        family: what the tasks are drawn from.
        draw_config: how runs are drawn.
        control: constants of the control law.
        seed: of the draws.
        groups: number of tasks.
        group_size: runs of each, whose base rates form the grid of the reference.
    """

    def __init__(
        self,
        family: Family,
        draw_config: DrawConfig,
        control: ControlConfig,
        seed: int = 0,
        groups: int = 10,
        group_size: int = 24,
    ) -> None:
        rng = np.random.default_rng([seed, 2**20])  # no iteration reaches this number
        self._draws = [draw(family, group_size, rng, draw_config) for _ in range(groups)]
        self._unguarded = replace(control, guard_ratio=math.inf)
        self._base: list[Tensor] | None = None

    def measure(self, policy: Policy) -> dict[str, float]:
        """Mean figures in nats of the score, lower is better.

        ``regret_to_same_rate`` compares with the base schedule alone at each run's own rate,
        ``regret_to_best_rate`` with the best rate of its group (a grid as large as the group);
        the latter also by the factor that the base rate is off by.
        """
        if self._base is None:
            keep = Policy.keep(self._unguarded)
            self._base = [final_scores(drawn, keep) for drawn in self._draws]
        own = [final_scores(drawn, policy) for drawn in self._draws]
        same = torch.cat([mine - base for mine, base in zip(own, self._base, strict=True)])
        best = torch.cat([mine - base.min() for mine, base in zip(own, self._base, strict=True)])
        factor = torch.cat(
            [torch.tensor(d.base_lrs).log() - math.log(d.task.optimizer.lr) for d in self._draws]
        )
        figures = {
            "regret_to_same_rate": float(same.mean()),
            "regret_to_best_rate": float(best.mean()),
            "regret_to_best_rate_median": float(best.median()),
        }
        for low, high, name in _BINS:
            inside = (factor >= low) & (factor < high)
            figures[f"regret_to_best_rate_{name}"] = float(best[inside].mean())
        return figures


def final_scores(drawn: Draw, policy: Policy) -> Tensor:
    """Score of every run of a draw at its end, under a policy, ``[runs]``."""
    rollout = Rollout(drawn, policy.control)
    while not rollout.done:
        rollout.advance(policy.act(rollout.signals()))
    assert rollout.final_loss is not None
    return score(rollout.final_loss, rollout.initial_loss)
