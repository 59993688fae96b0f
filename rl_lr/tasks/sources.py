"""What the families' sequences and images are drawn from."""

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from rl_lr.tasks.ingredients import integer, log_uniform, normal


def _markov(rng: Generator, rows: int, length: int, vocabulary: int) -> tuple[Tensor, int]:
    """Rows from a random second-order source over few tokens."""
    vocabulary = min(vocabulary, 16)
    logits = 2.0 * rng.standard_normal((vocabulary, vocabulary, vocabulary))
    table = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    tokens = rng.integers(vocabulary, size=(rows, length))
    for position in range(2, length):
        cumulative = table[tokens[:, position - 2], tokens[:, position - 1]].cumsum(axis=-1)
        drawn = (cumulative < rng.random((rows, 1))).sum(axis=-1)
        tokens[:, position] = np.minimum(drawn, vocabulary - 1)
    return torch.from_numpy(tokens), vocabulary


def _words(rng: Generator, rows: int, length: int, vocabulary: int) -> tuple[Tensor, int]:
    """Rows of running text: words of a random language, their frequencies falling as in Zipf's law."""
    letters = rng.permutation(vocabulary - 1) + 1  # token 0 is the space
    common = 1.0 / np.arange(1, vocabulary)
    dictionary = [
        np.append(rng.choice(letters, size=rng.integers(1, 9), p=common / common.sum()), 0)
        for _ in range(300)
    ]
    frequency = 1.0 / np.arange(1, 301)
    drawn = rng.choice(300, size=rows * length // 2, p=frequency / frequency.sum())
    text = np.concatenate([dictionary[word] for word in drawn])[: rows * length]
    return torch.from_numpy(text.reshape(rows, length)), vocabulary


def text(rng: Generator) -> tuple[Tensor, int]:
    """Rows of tokens from a random source, ``[rows, length]``, and the size of the vocabulary."""
    source, rows = (_markov, 1024) if rng.random() < 0.3 else (_words, 3072)
    length = integer(rng, 8, 24)
    return source(rng, rows, length, integer(rng, 12, 100))


def patterns(rng: Generator, rows: int, size: int, classes: int) -> tuple[Tensor, Tensor]:
    """Shifted, noisy copies of smooth random patterns, images ``[rows, 1, size, size]`` and which pattern it is."""
    smooth = nn.functional.interpolate(normal(rng, classes, 1, 4, 4), size=(size, size), mode="bilinear")
    y = torch.from_numpy(rng.integers(classes, size=rows))
    shift = rng.integers(-1, 2, size=(rows, 2))
    x = torch.stack(
        [smooth[k, 0].roll(tuple(s), (0, 1)) for k, s in zip(y.tolist(), shift.tolist(), strict=True)]
    )
    x = x + log_uniform(rng, 0.1, 1.0) * normal(rng, rows, size, size)
    return x[:, None], y


def patches(images: Tensor) -> Tensor:
    """Images ``[rows, 8, 8, channels]`` as 16 patches of 2×2, ``[rows, 16, 4 · channels]``, from top to bottom."""
    channels = images.shape[-1]
    return images.reshape(-1, 4, 2, 4, 2, channels).transpose(2, 3).reshape(-1, 16, 4 * channels)
