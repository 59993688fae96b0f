"""What learns nothing about learning: nearest neighbours, and fine-tuning of a network trained on all classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rl_lr.few_shot.config import FewShotConfig
from rl_lr.few_shot.dataset import Split
from rl_lr.few_shot.episodes import Episodes
from rl_lr.few_shot.learner import ConvNet, StackedLearner, flat
from rl_lr.few_shot.prototypes import features
from rl_lr.few_shot.training import Plan, accuracies, validation_episodes
from rl_lr.optimizers import OptimizerSpec, StackedOptimizer


@dataclass(frozen=True)
class NearestNeighbour:
    """The class of the one labelled image that is most like the query."""

    network: ConvNet | None = None
    """Whose features are compared; None: pixels."""
    cosine: bool = True
    """Compare directions; else by distance."""

    def __call__(self, episodes: Episodes) -> Tensor:
        """Logits of the queries: the greatest likeness among each class's images."""
        support, query = (self._seen(images) for images in (episodes.support, episodes.query))
        if self.cosine:
            likeness = torch.nn.functional.cosine_similarity(query[:, :, None], support[:, None], dim=-1)
        else:
            likeness = -torch.cdist(query, support)
        nearest: Tensor = likeness.unflatten(2, (episodes.ways, -1)).amax(dim=-1)
        return nearest

    def _seen(self, images: Tensor) -> Tensor:
        return images.flatten(2) if self.network is None else features(self.network, images)


@dataclass(frozen=True)
class FineTuning:
    """Gradient steps on the labelled images, from a network trained on all training classes, with a new head."""

    network: ConvNet
    """Its body; what its head says is not used."""
    optimizer: Literal["sgd", "adam"]
    """Plain gradient descent, or Adam."""
    rate: float
    """Of the optimizer."""
    steps: int
    """On all labelled images of the episode."""
    whole: bool
    """Whether all layers move; else the head alone."""
    scale: float
    """Of what the new head sees, :class:`ConvNet`'s."""

    def __call__(self, episodes: Episodes) -> Tensor:
        """Logits of the queries after the last step."""
        (answers,) = self.answers(episodes, [self.steps])
        return answers

    def answers(self, episodes: Episodes, after: Sequence[int]) -> list[Tensor]:
        """Logits of the queries after each of these numbers of steps, in rising order."""
        network = self.network.with_head(episodes.ways, self.scale)
        learner, inner = StackedLearner(network), flat(network.features).numel()
        weights = flat(network).repeat(len(episodes), 1)
        body, head = weights[:, :inner].clone(), weights[:, inner:].clone()
        optimizer = StackedOptimizer(OptimizerSpec(self.optimizer, momentum=0.0), [body, head])
        rates = torch.tensor([self.rate if self.whole else 0.0, self.rate]).expand(len(episodes), 2)
        found: list[Tensor] = []
        for step in range(1, max(after) + 1):
            weights = torch.cat((body, head), dim=1)
            _, gradients = learner.gradients(weights, episodes.support, episodes.support_labels)
            optimizer.step([gradients[:, :inner], gradients[:, inner:]], rates)
            if step in after:
                found.append(learner.logits(torch.cat((body, head), dim=1), episodes.query))
        return found


_IMAGES = 128  # in a batch of the network that tells all classes apart


def classifying(name: str, network: ConvNet, split: Split, config: FewShotConfig) -> Plan:
    """Train a network to tell all training classes apart, chosen by how its features do in 1-shot episodes."""
    images = torch.cat(split.train.images)
    labels = torch.cat([torch.full((len(own),), i) for i, own in enumerate(split.train.images)])

    def loss(rng: np.random.Generator) -> Tensor:
        rows = torch.from_numpy(rng.integers(len(images), size=_IMAGES))
        return torch.nn.functional.cross_entropy(network(images[rows]), labels[rows])

    chosen_by = validation_episodes(split, min(config.shots), config)
    arm = NearestNeighbour(network)
    return Plan(
        name, config.feature_iterations, loss, lambda: float(accuracies(arm, chosen_by).mean()), split.digest
    )
