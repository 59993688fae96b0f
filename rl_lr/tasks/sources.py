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
    """Rows of running text: words of a random language, their frequencies falling as in Zipf's law.

    Every word has one of a few kinds, and the kind of a word tells the kind of the next one. The more words there are,
    the longer a model goes on learning.
    """
    count, kinds = integer(rng, 100, 3000), int(rng.integers(1, 13))
    letters = rng.permutation(vocabulary - 1) + 1  # token 0 is the space
    common = 1.0 / np.arange(1, vocabulary)
    common = (common / common.sum()).cumsum()
    drawn = letters[np.searchsorted(common[:-1], rng.random((count, 8)))]
    dictionary = [
        np.append(word[:size], 0) for word, size in zip(drawn, rng.integers(1, 9, count), strict=True)
    ]
    follows = rng.dirichlet(np.full(kinds, 0.3), kinds).cumsum(axis=1)
    frequency = 1.0 / np.arange(1, count // kinds + 1)
    ranks = np.searchsorted((frequency / frequency.sum()).cumsum()[:-1], rng.random(rows * length // 2))
    kind, words = 0, []
    for rank, chance in zip(ranks, rng.random(len(ranks)), strict=True):
        kind = int(np.searchsorted(follows[kind, :-1], chance))
        words.append(dictionary[rank * kinds + kind])
    text = np.concatenate(words)[: rows * length]
    return torch.from_numpy(text.reshape(rows, length)), vocabulary


def text(rng: Generator) -> tuple[Tensor, int]:
    """Rows of tokens from a random source, ``[rows, length]``, and the size of the vocabulary."""
    source, rows = (_markov, 1024) if rng.random() < 0.3 else (_words, 3072)
    length = integer(rng, 8, 24)
    return source(rng, rows, length, integer(rng, 12, 100))


def pictures(rng: Generator, rows: int, size: int) -> Tensor:
    """Rough random pictures ``[rows, size, size]`` of unit variance, as photographs and clouds are.

    The amplitude of a wave falls with its frequency f as f⁻ᵃ, a from 0.8 to 1.8; of natural images a is about 1
    (Field, 1987).
    """
    frequency = torch.fft.fftfreq(size)[:, None].hypot(torch.fft.fftfreq(size)).clamp_min(1.0 / size)
    spectrum = torch.fft.fft2(normal(rng, rows, size, size)) * frequency ** -float(rng.uniform(0.8, 1.8))
    spectrum[:, 0, 0] = 0.0
    pictures = torch.fft.ifft2(spectrum).real
    standard: Tensor = pictures / pictures.std()
    return standard


def patterns(
    rng: Generator, rows: int, size: int, classes: int, rough: bool = False
) -> tuple[Tensor, Tensor]:
    """Shifted, noisy copies of smooth random patterns, images ``[rows, 1, size, size]``, and which pattern it is.

    With ``rough``, patterns and noise may be rough pictures.
    """
    smooth = nn.functional.interpolate(normal(rng, classes, 1, 4, 4), size=(size, size), mode="bilinear")
    if rough and rng.random() < 0.4:
        smooth = pictures(rng, classes, size)[:, None]
    y = torch.from_numpy(rng.integers(classes, size=rows))
    shift = rng.integers(-1, 2, size=(rows, 2))
    x = torch.stack(
        [smooth[k, 0].roll(tuple(s), (0, 1)) for k, s in zip(y.tolist(), shift.tolist(), strict=True)]
    )
    noise = pictures(rng, rows, size) if rough and rng.random() < 0.5 else normal(rng, rows, size, size)
    x = x + log_uniform(rng, 0.1, 1.0) * noise
    return x[:, None], y


def patches(images: Tensor) -> Tensor:
    """Images ``[rows, 8, 8, channels]`` as 16 patches of 2×2, ``[rows, 16, 4 · channels]``, from top to bottom."""
    channels = images.shape[-1]
    return images.reshape(-1, 4, 2, 4, 2, channels).transpose(2, 3).reshape(-1, 16, 4 * channels)
