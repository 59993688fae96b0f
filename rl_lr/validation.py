"""How good a policy is on runs kept apart from its training, while it trains."""

import math
from functools import cached_property

import torch
from torch import Tensor

from rl_lr.episodes import VALIDATION, Plan, Trial, final_scores
from rl_lr.policy import Policy
from rl_lr.tasks.task import central_rate
from rl_lr.workers.protocol import Workers

_BINS = ((-math.inf, -3.0, "x0.01"), (-3.0, 3.0, "x1"), (3.0, math.inf, "x100"))  # log factor, nats


class Validation:
    """The same runs under every policy, against the base schedule at the same rate and at its best.

    Args:
        plan: how runs are drawn; ``group_size`` base rates form the grid of the reference.
        workers: started on this plan.
        groups: number of tasks.
    """

    def __init__(self, plan: Plan, workers: Workers, groups: int) -> None:
        self._plan, self._workers, self._groups = plan, workers, range(groups)

    def measure(self, policy: Policy) -> dict[str, float]:
        """Mean figures in nats of the score, lower is better.

        ``regret_to_same_rate`` compares with the base schedule alone at each run's own rate,
        ``regret_to_best_rate`` with the best rate of its group (a grid as large as the group);
        the latter also by the factor that the base rate is off by, as far as there are such runs.
        """
        own = self._scores(policy)
        best = own - self._base.amin(dim=1, keepdim=True)
        figures = {
            "regret_to_same_rate": float((own - self._base).mean()),
            "regret_to_best_rate": float(best.mean()),
            "regret_to_best_rate_median": float(best.median()),
        }
        for low, high, name in _BINS:
            inside = (self._factor >= low) & (self._factor < high)
            if inside.any():
                figures[f"regret_to_best_rate_{name}"] = float(best[inside].mean())
        return figures

    @cached_property
    def _base(self) -> Tensor:
        """Scores under the base schedule alone, ``[groups, runs]``."""
        return self._scores(Policy.keep(self._plan.control.unguarded))

    @cached_property
    def _factor(self) -> Tensor:
        """Log factor by which each base rate is off, ``[groups, runs]``."""
        draws = [self._plan.group(VALIDATION, group)[0] for group in self._groups]
        return torch.stack([torch.tensor(d.base_lrs).log() - math.log(central_rate(d.task)) for d in draws])

    def _scores(self, policy: Policy) -> Tensor:
        """``[groups, runs]``."""
        trials = [Trial(policy, group) for group in self._groups]
        return torch.stack([torch.from_numpy(s) for s in self._workers.map(final_scores, trials)])
