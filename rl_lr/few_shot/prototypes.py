"""Prototypical networks: the class whose labelled images lie nearest, in features learned for that."""

from torch import Tensor, nn

from rl_lr.few_shot.episodes import Episodes
from rl_lr.few_shot.learner import ConvNet


class Prototypes(nn.Module):
    """Queries belong to the class with the nearest mean of features.

    The logit of class k is ``-|φ(x) - mean of φ over its labelled images|² / width`` (Snell et al., 1703.05175,
    equations 1 and 2), with φ the features of the learner. Division by the width of φ, a temperature, keeps the first
    logits of order one.

    Args:
        network: whose features; trained in place.
    """

    def __init__(self, network: ConvNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, episodes: Episodes) -> Tensor:
        """Logits of the queries, ``[episodes, ways · queries, ways]``."""
        self.network.accept(episodes)
        return nearest_means(
            features(self.network, episodes.support), features(self.network, episodes.query), episodes.ways
        )


def features(network: ConvNet, images: Tensor) -> Tensor:
    """Of images ``[episodes, n, ...]``, ``[episodes, n, width]``."""
    found: Tensor = network.features(images.flatten(0, 1))
    return found.view(*images.shape[:2], -1)


def nearest_means(support: Tensor, query: Tensor, ways: int) -> Tensor:
    """Minus the squared distance to the mean of each class, divided by the width.

    Args:
        support: of labelled images class by class, ``[episodes, ways · shots, width]``.
        query: ``[episodes, n, width]``.
        ways: classes.

    Returns:
        ``[episodes, n, ways]``.
    """
    means: Tensor = support.unflatten(1, (ways, -1)).mean(dim=2)
    return -(query[:, :, None] - means[:, None]).square().mean(dim=-1)
