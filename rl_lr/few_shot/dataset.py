"""Classes of images, and their split into those to train on, to choose by and to test on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rl_lr.few_shot.config import FewShotConfig
from rl_lr.few_shot.glyphs import draw_class
from rl_lr.tasks.real import digits


@dataclass(frozen=True)
class Classes:
    """Images by class."""

    name: str
    """What error messages call them."""
    names: tuple[str, ...]
    """Of the classes."""
    images: tuple[Tensor, ...]
    """Of each class, ``[n, channels, size, size]`` float32 in [0, 1]."""

    def __post_init__(self) -> None:
        """Refuse a set without classes."""
        if not self.names:
            raise ValueError(
                f"{self.name} holds zero classes: give a folder with one folder of images per class."
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for coloured ones."""
        return self.images[0].shape[1]

    def check(self, ways: int, images: int) -> None:
        """Refuse episodes that cannot be drawn.

        Args:
            ways: classes of an episode.
            images: that it needs of each of them, labelled ones and queries.

        Raises:
            ValueError: if there are fewer classes, or a class has fewer images.
        """
        if len(self) < ways:
            raise ValueError(
                f"{self.name} holds {len(self)} classes, fewer than the {ways} ways of an episode: add classes, or "
                f"lower ways."
            )
        for name, own in zip(self.names, self.images, strict=True):
            if len(own) < images:
                raise ValueError(
                    f"Class {name!r} of {self.name} has {len(own)} images, fewer than the {images} that an episode "
                    f"needs, shots + queries: add images, or lower shots or queries."
                )

    def take(self, name: str, which: Sequence[int]) -> "Classes":
        """Some of them, in this order."""
        return Classes(name, tuple(self.names[i] for i in which), tuple(self.images[i] for i in which))


@dataclass(frozen=True)
class Split:
    """Classes that share nothing."""

    train: Classes
    """To train on."""
    validation: Classes
    """To choose moments and settings by."""
    test: Classes
    """For the results alone."""

    @property
    def digest(self) -> str:
        """Tells whether images are the same and in the same parts."""
        found = hashlib.sha256()
        for classes in (self.train, self.validation, self.test):
            for name, images in zip(classes.names, classes.images, strict=True):
                found.update(f"{name} {tuple(images.shape)}".encode())
                found.update(images.contiguous().numpy().tobytes())
        return found.hexdigest()[:16]

    def check(self, config: FewShotConfig) -> None:
        """Refuse what the episodes of a comparison cannot be drawn from: ValueError, in one sentence."""
        for classes in (self.train, self.validation, self.test):
            classes.check(config.ways, config.most_images)


def drawn_glyphs(config: FewShotConfig) -> Split:
    """Generated glyphs; classes of one part are in no other."""
    parts, first = [], 0
    for part, count in zip(("training", "validation", "test"), config.class_counts, strict=True):
        indices = range(first, first + count)
        images = tuple(draw_class(config.seed, i, config.examples, config.size) for i in indices)
        parts.append(Classes(f"the {part} part of the glyphs", tuple(f"glyph {i}" for i in indices), images))
        first += count
    return Split(*parts)


def split(classes: Classes, seed: int) -> Split:
    """Classes at random: 64 % to train on, 16 % to choose by, 20 % for the results, as of mini-ImageNet."""
    order = np.random.default_rng(seed).permutation(len(classes)).tolist()
    a, b = round(0.64 * len(order)), round(0.8 * len(order))
    parts = zip(("training", "validation", "test"), (order[:a], order[a:b], order[b:]), strict=True)
    for part, which in parts:
        if not which:
            raise ValueError(
                f"{classes.name} holds {len(classes)} classes, which leaves none for the {part} part: add classes."
            )
    return Split(
        classes.take(f"the training part of {classes.name}", order[:a]),
        classes.take(f"the validation part of {classes.name}", order[a:b]),
        classes.take(f"the test part of {classes.name}", order[b:]),
    )


def digit_classes(size: int, channels: int) -> Classes:
    """scikit-learn's handwritten digits, ten classes, as images of this size."""
    images, labels = (torch.cat(parts) for parts in (digits()[0::2], digits()[1::2]))
    larger = torch.nn.functional.interpolate(
        images[:, None], (size, size), mode="bilinear", align_corners=False
    )
    larger = larger.expand(-1, channels, -1, -1)
    return Classes("the digits", tuple("0123456789"), tuple(larger[labels == i] for i in range(10)))
