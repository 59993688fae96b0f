"""Families for choosing between policies whose loss stays where it is for long before it falls.

On such a plateau a rate that is too low and one that is too high look alike: the loss is where it began. None has a
plateau that nobody leaves, where the lowest rate would win by its noise.
"""

from functools import partial

import torch
from numpy.random import Generator
from torch import Tensor

from rl_lr.tasks import networks
from rl_lr.tasks.ingredients import finish, integer, log_uniform, normal
from rl_lr.tasks.tensors import TensorTask, cross_entropy, next_token, squared_error


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


def repeats(rng: Generator) -> TensorTask:
    """A small transformer finds out that the second half of each row is the first one over again."""
    vocabulary, half = int(rng.integers(8, 24)), int(rng.integers(4, 9))
    first = torch.from_numpy(rng.integers(vocabulary, size=(1024, half)))
    width = 4 * int(rng.integers(4, 9))
    factory = partial(networks.Transformer, vocabulary, 2 * half, width, depth=2)
    rows = torch.cat((first, first), dim=1)
    return finish(rng, "repeats", factory, (rows,), next_token, batch=(8, 64))


def _one_hot(indices: Tensor, count: int) -> Tensor:
    return torch.nn.functional.one_hot(indices, count).float()


PLATEAUS = (parities, recalls, lookups, repeats)
"""All of them."""
