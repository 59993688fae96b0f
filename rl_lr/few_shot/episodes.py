"""Episodes: a few classes, a few labelled images of each, and queries to be told apart."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rl_lr.few_shot.dataset import Classes


@dataclass(frozen=True)
class Episodes:
    """Stacked N-way K-shot episodes. Images lie class by class, so that labels are the same in all of them."""

    support: Tensor
    """Labelled images, ``[episodes, ways · shots, channels, size, size]`` float32."""
    query: Tensor
    """Images to be told apart, ``[episodes, ways · queries, channels, size, size]`` float32."""
    ways: int
    """Classes of each."""

    def __len__(self) -> int:
        return len(self.support)

    @property
    def support_labels(self) -> Tensor:
        """``[ways · shots]`` int64."""
        return _labels(self.ways, self.support.shape[1])

    @property
    def query_labels(self) -> Tensor:
        """``[ways · queries]`` int64."""
        return _labels(self.ways, self.query.shape[1])

    def parts(self, count: int) -> "Iterator[Episodes]":
        """The same episodes, ``count`` at a time."""
        for start in range(0, len(self), count):
            rows = slice(start, start + count)
            yield Episodes(self.support[rows], self.query[rows], self.ways)


def _labels(ways: int, images: int) -> Tensor:
    return torch.arange(ways).repeat_interleave(images // ways)


def draw_episodes(
    classes: Classes, count: int, ways: int, shots: int, queries: int, rng: np.random.Generator
) -> Episodes:
    """Episodes of classes, and of images of each, drawn without replacement.

    Raises:
        ValueError: if there are not as many classes, or images of a class.

    >>> from rl_lr.few_shot.dataset import digit_classes
    >>> drawn = draw_episodes(digit_classes(8, 1), 2, 5, 1, 3, np.random.default_rng(0))
    >>> tuple(drawn.support.shape), drawn.query_labels.tolist()
    ((2, 5, 1, 8, 8), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4])
    """
    classes.check(ways, shots + queries)
    support, query = [], []
    for _ in range(count):
        for chosen in rng.permutation(len(classes))[:ways]:
            images = classes.images[chosen]
            rows = images[torch.from_numpy(rng.permutation(len(images))[: shots + queries])]
            support.append(rows[:shots])
            query.append(rows[shots:])
    shape = images.shape[1:]
    return Episodes(
        torch.cat(support).view(count, ways * shots, *shape),
        torch.cat(query).view(count, ways * queries, *shape),
        ways,
    )
