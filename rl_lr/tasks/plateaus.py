"""Families whose loss stays where it is for long before it falls: who lowers the rate there never gets on."""

import math
from functools import partial

import torch
from numpy.random import Generator
from torch import Tensor, nn

from rl_lr.tasks import networks
from rl_lr.tasks.ingredients import finish, integer, log_uniform, normal
from rl_lr.tasks.tensors import TensorTask, cross_entropy, squared_error


def parities(rng: Generator) -> TensorTask:
    """An MLP finds the few inputs whose product the target is; each by itself tells nothing of it."""
    width, factors = integer(rng, 4, 24), int(rng.integers(2, 4))
    x = normal(rng, integer(rng, 256, 2048), width)
    if rng.random() < 0.5:
        x = x.sign()
    product = x[:, :factors].prod(dim=1, keepdim=True)
    sizes = (width, *([integer(rng, 12, 128)] * int(rng.integers(1, 4))))
    activation = networks.ACTIVATIONS[rng.integers(len(networks.ACTIVATIONS))]
    if rng.random() < 0.5:
        classes = (product[:, 0] > 0).long()
        return finish(
            rng, "parities", partial(networks.mlp, (*sizes, 2), activation), (x, classes), cross_entropy
        )
    factory = partial(networks.mlp, (*sizes, 1), activation)
    return finish(rng, "parities", factory, (x, product / product.std()), squared_error)


def recalls(rng: Generator) -> TensorTask:
    """A recurrent network tells what it read first, after as much again that does not matter."""
    length, kinds = integer(rng, 4, 14), int(rng.integers(2, 7))
    told = torch.from_numpy(rng.integers(kinds, size=1024))
    x = log_uniform(rng, 0.1, 1.0) * normal(rng, 1024, length, kinds)
    x[torch.arange(1024), 0, told] += 1.0
    factory = partial(networks.Reader, kinds, integer(rng, 8, 40), kinds, gated=bool(rng.random() < 0.8))
    return finish(rng, "recalls", factory, (x, told), cross_entropy)


def lookups(rng: Generator) -> TensorTask:
    """Attention over pairs of key and value finds the value of the key that is asked for."""
    rows, length, kinds = 1024, integer(rng, 3, 8), int(rng.integers(2, 5))
    keys = torch.from_numpy(rng.permuted(torch.arange(length).expand(rows, -1).numpy(), axis=1).copy())
    values = torch.from_numpy(rng.integers(kinds, size=(rows, length)))
    asked = torch.from_numpy(rng.integers(length, size=rows))
    pairs = torch.cat((_one_hot(keys, length), _one_hot(values, kinds)), dim=-1)
    question = torch.cat(
        (_one_hot(keys.gather(1, asked[:, None]), length), torch.zeros(rows, 1, kinds)), dim=-1
    )
    x = torch.cat((question, pairs), dim=1)
    y = values.gather(1, asked[:, None])[:, 0]
    width, depth = 4 * integer(rng, 3, 8), int(rng.integers(1, 3))
    factory = partial(networks.Encoder, length + kinds, length + 1, width, depth, kinds)
    return finish(rng, "lookups", factory, (x, y), cross_entropy, batch=(4, max(8, 80 // length)))


class Squares(nn.Module):
    """Squared projections, summed: around weights of zero, where it begins, hardly anything moves the output."""

    def __init__(self, inputs: int, units: int, start: float) -> None:
        super().__init__()
        self.w = nn.Parameter(start * torch.randn(units, inputs) / math.sqrt(inputs))

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, inputs]`` → ``[batch, 1]``."""
        y: Tensor = (x @ self.w.mT).square().sum(dim=-1, keepdim=True)
        return y


def squares(rng: Generator) -> TensorTask:
    """Projections are found from the sum of their squares, as a phase is from an intensity."""
    width, rank = integer(rng, 4, 48), int(rng.integers(1, 4))
    x = normal(rng, integer(rng, 256, 2048), width)
    y = (x @ normal(rng, width, rank)).square().sum(dim=1, keepdim=True)
    y = y / y.mean() + float(rng.choice((0.0, 0.1))) * normal(rng, len(x), 1)
    factory = partial(Squares, width, rank * integer(rng, 1, 8), log_uniform(rng, 0.01, 0.5))
    return finish(rng, "squares", factory, (x, y), squared_error)


def _one_hot(indices: Tensor, count: int) -> Tensor:
    return torch.nn.functional.one_hot(indices, count).float()
