"""Families for choosing between policies whose data nobody drew: English prose, a photograph, analyses of wine.

What is drawn is smooth or random through and through; these have what such data lack: rare letters and long words,
edges beside even areas, measurements that tell nearly the same.
"""

import math
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from rl_lr.tasks import networks
from rl_lr.tasks.ingredients import log_uniform, normal, usual
from rl_lr.tasks.sources import patches
from rl_lr.tasks.tensors import TensorTask, cross_entropy, next_token, squared_error

_LETTERS = "\n " + "".join(map(chr, range(33, 127)))


@cache
def _prose() -> Tensor:
    """The language reference that ``help()`` prints, one code for each character, 0 for rare ones."""
    from pydoc_data.topics import topics

    code = {letter: place + 1 for place, letter in enumerate(_LETTERS)}
    return torch.tensor([code.get(letter, 0) for _, text in sorted(topics.items()) for letter in text])


@cache
def _photograph() -> Tensor:
    """scikit-learn's photograph of a flower at half its size, ``[213, 320, 3]``, standardised."""
    from sklearn.datasets import load_sample_image

    whole = torch.from_numpy(load_sample_image("flower.jpg").astype(np.float32))[:426]
    half = whole.view(213, 2, 320, 2, 3).mean(dim=(1, 3))
    return (half - half.mean()) / half.std()


class GatedConvolutions(nn.Module):
    """Causal convolutions with gates over characters (Dauphin et al., 1612.08083)."""

    def __init__(self, vocabulary: int, width: int, depth: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(vocabulary, width), nn.Linear(width, vocabulary)
        self.layers = nn.ModuleList(nn.Conv1d(width, 2 * width, 4) for _ in range(depth))

    def forward(self, tokens: Tensor) -> Tensor:
        """``[batch, length]`` → logits of the next character, ``[batch, length, vocabulary]``."""
        x = self.embed(tokens).mT
        for layer in self.layers:
            x = x + nn.functional.glu(layer(nn.functional.pad(x, (3, 0))), dim=1)
        logits: Tensor = self.head(x.mT)
        return logits


class GatedRecurrence(nn.Module):
    """One layer of gated recurrent units (Cho et al., 1406.1078) over characters."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(vocabulary, width), nn.Linear(width, vocabulary)
        self.recur = nn.GRU(width, width, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[batch, length]`` → logits of the next character, ``[batch, length, vocabulary]``."""
        logits: Tensor = self.head(self.recur(self.embed(tokens))[0])
        return logits


def prose(rng: Generator) -> TensorTask:
    """The next character of English text, by convolutions or by recurrence."""
    length, width = int(rng.integers(16, 33)), 8 * int(rng.integers(2, 6))
    text, vocabulary = _prose(), len(_LETTERS) + 1
    start = int(rng.integers(len(text) - 4000 * length))
    rows = text[start : start + 4000 * length].view(4000, length)
    factory: Callable[[], nn.Module] = partial(GatedRecurrence, vocabulary, width)
    if rng.random() < 0.6:
        factory = partial(GatedConvolutions, vocabulary, width, int(rng.integers(1, 4)))
    return usual(rng, "prose", factory, (rows,), next_token, batches=(4, 8, 16))


class Latents(nn.Module):
    """A few learned vectors look at all patches and then at each other (Perceiver, 2103.03206)."""

    def __init__(self, patches: int, size: int, width: int, depth: int, outputs: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(0.02 * torch.randn(6, width))
        self.place = nn.Parameter(0.02 * torch.randn(patches, width))
        self.enter, self.look = nn.Linear(size, width), nn.Linear(width, 2 * width)
        self.blocks = networks.blocks(width, depth, heads=2, causal=False)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Patches ``[batch, patches, size]`` → ``[batch, outputs]``."""
        keys, values = self.look(self.enter(x) + self.place).chunk(2, dim=-1)
        scores = self.latents @ keys.mT / math.sqrt(keys.shape[-1])
        seen = self.latents + scores.softmax(dim=-1) @ values
        y: Tensor = self.head(self.blocks(seen).mean(dim=-2))
        return y


def photographs(rng: Generator) -> TensorTask:
    """Attention over the patches of a small piece of a photograph tells which way up it is, or what is cut out."""
    picture = _photograph()
    top, left = (torch.from_numpy(rng.integers(side - 8, size=1500)) for side in picture.shape[:2])
    inside = torch.arange(8)
    pieces = picture[(top[:, None] + inside)[:, :, None], (left[:, None] + inside)[:, None, :]]
    width, depth = 8 * int(rng.integers(2, 5)), int(rng.integers(1, 3))
    if rng.random() < 0.5:
        turned = torch.from_numpy(rng.integers(4, size=1500))
        pieces = torch.stack([one.rot90(int(k)) for one, k in zip(pieces, turned, strict=True)])
        factory = partial(Latents, 16, 12, width, depth, 4)
        return usual(rng, "photographs", factory, (patches(pieces), turned), cross_entropy)
    middle = pieces[:, 3:5, 3:5].flatten(1).clone()
    pieces[:, 2:6, 2:6] = 0.0
    factory = partial(Latents, 16, 12, width, depth, 12)
    return usual(rng, "photographs", factory, (patches(pieces), middle), squared_error)


def pixels(rng: Generator) -> TensorTask:
    """A network draws a part of a photograph from Fourier features of where a pixel is (Tancik et al., 2006.10739)."""
    picture = _photograph()
    top, left = (int(rng.integers(side - 48)) for side in picture.shape[:2])
    line = torch.linspace(-1.0, 1.0, 48)
    places = torch.cartesian_prod(line, line)
    angles = log_uniform(rng, 3.0, 20.0) * places @ normal(rng, 2, 24)
    x = torch.cat((angles.sin(), angles.cos()), dim=1)
    colours = picture[top : top + 48, left : left + 48].reshape(-1, 3)
    width, depth = int(rng.integers(24, 80)), int(rng.integers(1, 4))
    factory = partial(networks.mlp, (48, *([width] * depth), 3), nn.ReLU)
    return usual(rng, "pixels", factory, (x, colours), squared_error, batches=(32, 64, 128))


def wine(rng: Generator) -> TensorTask:
    """One of thirteen analyses of 178 wines from the others, or the grower."""
    from sklearn.datasets import load_wine

    table, grower = load_wine(return_X_y=True)
    x = torch.from_numpy(((table - table.mean(axis=0)) / table.std(axis=0)).astype(np.float32))
    width, residual = int(rng.integers(16, 64)), bool(rng.random() < 0.5)
    sizes = (12, *([width] * int(rng.integers(1, 4))))
    if rng.random() < 0.3:
        factory = partial(networks.mlp, (*sizes, 3), nn.ELU, residual=residual)
        return usual(
            rng, "wine", factory, (x[:, 1:], torch.from_numpy(grower)), cross_entropy, batches=(8, 16)
        )
    column = int(rng.integers(13))
    others = torch.cat((x[:, :column], x[:, column + 1 :]), dim=1)
    factory = partial(networks.mlp, (*sizes, 1), nn.ELU, residual=residual)
    return usual(rng, "wine", factory, (others, x[:, column : column + 1]), squared_error, batches=(8, 16))


NATURAL = (prose, photographs, pixels, wine)
"""All of them."""
