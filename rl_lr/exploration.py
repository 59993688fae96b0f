"""How actions stray from what a policy would do, so that it learns what else there is."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rl_lr.policy import Policy


class Exploration(Protocol):
    """Draws what an episode strays by, before its first decision, and strays."""

    def draw(self, rng: np.random.Generator, decisions: int, runs: int) -> Tensor:
        """All that is random about an episode, ``[decisions, runs]``."""
        ...

    def act(self, policy: Policy, signals: Tensor, drawn: Tensor) -> Tensor:
        """Actions ``[runs]`` for ``signals``; ``drawn`` is what was drawn for this decision, ``[runs]``."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Actions are normal around the policy's."""

    std: float
    """Standard deviation, in units of the largest change of the offset."""

    def draw(self, rng: np.random.Generator, decisions: int, runs: int) -> Tensor:
        """What is added to each action."""
        return self.std * torch.from_numpy(rng.standard_normal((decisions, runs), dtype=np.float32))

    def act(self, policy: Policy, signals: Tensor, drawn: Tensor) -> Tensor:
        """Not clipped: what learns from them wants their probability."""
        return policy.mean(signals) + drawn


@dataclass(frozen=True)
class EpsilonGreedy:
    """Actions are the policy's, but for a share of them, which are any of its choices."""

    epsilon: float
    """That share."""
    choices: tuple[float, ...]
    """What a policy chooses among."""

    def draw(self, rng: np.random.Generator, decisions: int, runs: int) -> Tensor:
        """The action where it is not the policy's, else NaN."""
        anything = np.array(self.choices, np.float32)[rng.integers(len(self.choices), size=(decisions, runs))]
        strays = rng.random((decisions, runs)) < self.epsilon
        return torch.from_numpy(np.where(strays, anything, np.float32(np.nan)))

    def act(self, policy: Policy, signals: Tensor, drawn: Tensor) -> Tensor:
        """The policy's own action wherever nothing was drawn."""
        return torch.where(drawn.isnan(), policy.act(signals), drawn)
