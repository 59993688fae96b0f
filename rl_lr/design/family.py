"""Training families of the learning-rate policy: random designs on generated data, never the digits or source text."""

from functools import partial

import numpy as np

from rl_lr.design.architecture import Architecture, Dense, LayerSpace
from rl_lr.design.cells import CellNet, CellSpace
from rl_lr.design.space import Taken, uniformly, walk
from rl_lr.tasks import networks
from rl_lr.tasks.families import classifier
from rl_lr.tasks.ingredients import Weighted, finish, integer
from rl_lr.tasks.sources import patterns, text
from rl_lr.tasks.tensors import TensorTask, cross_entropy, next_token

_LARGEST = 20_000  # parameters: larger networks make few runs


def designed(rng: np.random.Generator) -> TensorTask:
    """A random network of one to five layers of :class:`rl_lr.design.LayerSpace` tells patterns apart."""
    side, classes = int(rng.choice((8, 10, 12))), int(rng.integers(3, 11))
    few, many = integer(rng, 3, 8), integer(rng, 6, 20)
    space = LayerSpace(
        inputs=(1, side),
        channels=(few, many),
        sizes=(1, 3, 5),
        widths=(integer(rng, 8, 32), integer(rng, 16, 96)),
        depth=int(rng.integers(1, 6)),
    )
    architecture = _architecture(rng, space, classes)
    activation = networks.ACTIVATIONS[rng.integers(len(networks.ACTIVATIONS))]
    factory = classifier(rng, partial(architecture.build, space.inputs, classes, activation))
    tensors = patterns(rng, 1024, side, classes)
    return finish(rng, "designed", factory, tensors, cross_entropy, batch=(8, 32))


def _architecture(rng: np.random.Generator, space: LayerSpace, classes: int) -> Architecture:
    """As deep as the space goes, and not too large; an end that comes too early is drawn again."""
    end = len(space.layers)

    def choose(_: Taken, allowed: list[int]) -> int:
        going_on = [one for one in allowed if one != end] or allowed
        images = [one for one in going_on if not isinstance(space.layers[one % end], Dense)]
        return int(rng.choice(images if images and rng.random() < 0.7 else going_on))

    while True:
        architecture = space.design(walk(space, choose))
        if architecture.parameters(space.inputs, classes) <= _LARGEST:
            return architecture


def designed_cell(rng: np.random.Generator) -> TensorTask:
    """A random recurrent cell of :class:`rl_lr.design.CellSpace` models text from a random source."""
    space = CellSpace(int(rng.choice((2, 4, 8), p=(0.4, 0.4, 0.2))))
    cell = space.design(walk(space, uniformly(rng)))
    tokens, vocabulary = text(rng)
    factory = partial(CellNet, cell, vocabulary, integer(rng, 12, 40))
    most = max(3, 128 // tokens.shape[1])  # few tokens in a batch pay for the larger networks
    return finish(rng, "designed-cell", factory, (tokens,), next_token, batch=(3, most))


DESIGNED: Weighted = ((designed, 1.5), (designed_cell, 1.0))
"""Both, with the weights that they are meant to be mixed with :data:`rl_lr.tasks.families.TRAINING` by."""
