"""The learned start: where every episode's learner begins."""

import torch
from torch import Tensor, nn

from rl_lr.few_shot.learner import ConvNet, flat


class Start(nn.Module):
    """Weights θ_0 of a learner, of which one row of the head is learned for all classes.

    Which class of an episode comes first is chance, so that the best start treats all alike; rows of the head that are
    learned apart only wander at random, each episode pulling them another way (Ye & Chao, 2106.16245).

    Args:
        network: what the body begins as; the head begins at zero.
    """

    def __init__(self, network: ConvNet) -> None:
        super().__init__()
        self._ways = network.classes
        self.body = nn.Parameter(flat(network.features))
        self.row, self.bias = (
            nn.Parameter(torch.zeros(network.head.in_features)),
            nn.Parameter(torch.zeros(1)),
        )

    def forward(self, learners: int) -> Tensor:
        """The same weights for each learner, ``[learners, parameters]``, as :class:`StackedLearner` takes them."""
        weights = torch.cat((self.body, self.row.repeat(self._ways), self.bias.repeat(self._ways)))
        return weights.expand(learners, -1)
