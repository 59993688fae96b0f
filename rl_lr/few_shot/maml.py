"""Gradient descent from a learned start: MAML, and its first-order form with a learned rate."""

import math

import torch
from torch import Tensor, nn

from rl_lr.few_shot.episodes import Episodes
from rl_lr.few_shot.learner import ConvNet, StackedLearner
from rl_lr.few_shot.start import Start


class LearnedStart(nn.Module):
    """Plain steps of gradient descent, θ ← θ - η ∇, from a start that is learned.

    With second derivatives it is MAML (Finn et al., 1703.03400); without, what is left of
    :class:`rl_lr.few_shot.meta_learner.MetaLearner` with f = 1 and i = η. The rate η is learned with the start.

    Args:
        network: the learner; its body is the start before training.
        steps: of gradient descent.
        second_order: whether the training differentiates through the gradients.
        rate: η before training.
    """

    def __init__(self, network: ConvNet, steps: int, second_order: bool, rate: float = 0.01) -> None:
        super().__init__()
        self._network, self._steps, self._second_order = [network], steps, second_order
        self.start = Start(network)
        self.log_rate = nn.Parameter(torch.tensor(math.log(rate)))

    def forward(self, episodes: Episodes) -> Tensor:
        """Logits of the queries, ``[episodes, ways · queries, ways]``."""
        self._network[0].accept(episodes)
        learner, rate = StackedLearner(self._network[0]), self.log_rate.exp()
        weights = self.start(len(episodes))
        through = self._second_order and torch.is_grad_enabled()
        for _ in range(self._steps):
            _, gradients = learner.gradients(weights, episodes.support, episodes.support_labels, through)
            weights = weights - rate * gradients
        return learner.logits(weights, episodes.query)
