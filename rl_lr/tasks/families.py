"""Families: generators of tasks that train the policy. Everything is drawn, nothing downloaded.

Each family is a function from a random generator to a :class:`~rl_lr.tasks.tensors.TensorTask`;
what varies beside its optimizer and scales (size, activation, conditioning, noise) varies because a
policy that has seen it vary cannot lean on it.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from rl_lr.tasks import networks, wrappers
from rl_lr.tasks.ingredients import Weighted, finish, integer, log_uniform, normal
from rl_lr.tasks.sources import patterns, text
from rl_lr.tasks.task import Fit, Task
from rl_lr.tasks.tensors import TensorTask, cross_entropy, next_token, own_loss, squared_error


def _inputs(rng: Generator, rows: int, width: int) -> Tensor:
    """Rotated Gaussian rows whose covariance has a condition number of 1 to 1000."""
    spectrum = torch.logspace(0.0, -0.5 * rng.uniform(0.0, 3.0), width)
    rotation, _ = torch.linalg.qr(normal(rng, width, width))
    rows_ = normal(rng, rows, width) * spectrum @ rotation
    scaled: Tensor = rows_ / rows_.std()
    return scaled


def _mlp(rng: Generator, inputs: int, outputs: int) -> Callable[[], nn.Module]:
    """None to three hidden layers: without any, the model is linear."""
    width, depth = integer(rng, 8, 200), int(rng.integers(0, 4))
    activation = networks.ACTIVATIONS[rng.integers(len(networks.ACTIVATIONS))]
    norm, residual = bool(rng.random() < 0.25), bool(rng.random() < 0.25)
    sizes = (inputs, *([width] * depth), outputs)
    return partial(networks.mlp, sizes, activation, norm, residual)


def classifier(rng: Generator, factory: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """The network itself, or for some one that compares directions: the scale of its last weights is free."""
    sharpness = log_uniform(rng, 4.0, 30.0)
    return partial(wrappers.with_directions, factory, sharpness) if rng.random() < 0.2 else factory


def _teacher(rng: Generator, x: Tensor, outputs: int) -> Tensor:
    """Standardised outputs of a random two-layer network."""
    hidden = torch.tanh(1.5 * x @ normal(rng, x.shape[-1], 24) / math.sqrt(x.shape[-1]))
    y = hidden @ normal(rng, 24, outputs)
    return (y - y.mean(dim=0)) / y.std(dim=0)


def mlp_classification(rng: Generator) -> TensorTask:
    """An MLP learns the labels of a random teacher, a share of them replaced at random."""
    rows, width, classes = integer(rng, 64, 2048), integer(rng, 4, 64), int(rng.integers(2, 11))
    x = _inputs(rng, rows, width)
    y = _teacher(rng, x, classes).argmax(dim=-1)
    noise = float(rng.choice((0.0, 0.0, 0.05, 0.2)))
    wrong = torch.from_numpy(rng.random(rows) < noise)
    y = torch.where(wrong, torch.from_numpy(rng.integers(classes, size=rows)), y)
    factory = classifier(rng, _mlp(rng, width, classes))
    return finish(rng, "mlp-classification", factory, (x, y), cross_entropy)


def mlp_regression(rng: Generator) -> TensorTask:
    """An MLP learns a random teacher's outputs, clean or with noise."""
    rows, width, outputs = integer(rng, 64, 2048), integer(rng, 4, 64), int(rng.integers(1, 5))
    x = _inputs(rng, rows, width)
    noise = float(rng.choice((0.0, 0.0, 0.1, 0.5)))
    y = _teacher(rng, x, outputs) + noise * normal(rng, rows, outputs)
    return finish(rng, "mlp-regression", _mlp(rng, width, outputs), (x, y), squared_error)


def gaussian(output: Tensor, target: Tensor) -> Tensor:
    """Mean of -log N(y; μ, s²) less log √(2π), in nats; ``output [..., 2 · d]`` holds μ, then log s."""
    mean, log_scale = output.chunk(2, dim=-1)
    return (log_scale + 0.5 * ((target - mean) * (-log_scale).exp()).square()).mean()


def laplace(output: Tensor, target: Tensor) -> Tensor:
    """Mean of -log of the Laplace density less log 2, in nats; ``output [..., 2 · d]`` holds μ, then log s."""
    mean, log_scale = output.chunk(2, dim=-1)
    return (log_scale + (target - mean).abs() * (-log_scale).exp()).mean()


def likelihoods(rng: Generator) -> TensorTask:
    """An MLP learns how far off it is, too: its loss falls below zero, and it curves the more the lower it is."""
    rows, width, outputs = integer(rng, 64, 2048), integer(rng, 4, 64), int(rng.integers(1, 5))
    x = _inputs(rng, rows, width)
    spread = log_uniform(rng, 0.003, 1.0) * (float(rng.choice((0.0, 0.5))) * _teacher(rng, x, outputs)).exp()
    y = _teacher(rng, x, outputs) + spread * normal(rng, rows, outputs)
    criterion = gaussian if rng.random() < 0.75 else laplace
    if rng.random() < 0.5:
        return finish(rng, "likelihoods", _mlp(rng, width, 2 * outputs), (x, y), criterion)
    network = _mlp(rng, width, outputs)
    return finish(rng, "likelihoods", lambda: wrappers.Spread(network(), outputs), (x, y), criterion)


def coordinates(rng: Generator) -> TensorTask:
    """A coordinate network draws a smooth random signal, with sine or common activations."""
    inputs = int(rng.integers(1, 3))
    x = torch.from_numpy(rng.uniform(-1.0, 1.0, (1024, inputs)).astype(np.float32))
    waves = 6.0 * normal(rng, inputs, 12) * log_uniform(rng, 0.3, 2.0)
    y = torch.sin(x @ waves + 6.3 * torch.from_numpy(rng.random(12, dtype=np.float32))) @ normal(rng, 12, 1)
    width, depth = integer(rng, 12, 96), int(rng.integers(1, 4))
    frequency = log_uniform(rng, 1.0, 20.0)
    activation = partial(networks.Sine, frequency) if rng.random() < 0.7 else nn.Tanh
    factory = partial(networks.mlp, (inputs, *([width] * depth), 1), activation)
    return finish(rng, "coordinates", factory, (x, y / y.std()), squared_error)


def autoencoder(rng: Generator) -> TensorTask:
    """An autoencoder compresses rows that lie near a curved surface."""
    rows, width = integer(rng, 256, 2048), integer(rng, 8, 64)
    x = _teacher(rng, _inputs(rng, rows, int(rng.integers(2, 8))), width)
    hidden, code = integer(rng, 12, 96), int(rng.integers(2, 9))
    activation = networks.ACTIVATIONS[rng.integers(len(networks.ACTIVATIONS))]
    factory = partial(networks.mlp, (width, hidden, code, hidden, width), activation)
    return finish(rng, "autoencoder", factory, (x,), squared_error)


def images(rng: Generator) -> TensorTask:
    """A convolutional network tells patterns apart."""
    size, classes = 8, int(rng.integers(3, 11))
    tensors = patterns(rng, 1024, size, classes)
    channels = (1, integer(rng, 4, 12), integer(rng, 6, 24))[: int(rng.integers(2, 4))]
    activation = networks.ACTIVATIONS[rng.integers(len(networks.ACTIVATIONS))]
    norm, maximum = bool(rng.random() < 0.35), bool(rng.random() < 0.5)
    factory = classifier(rng, partial(networks.convnet, channels, size, classes, activation, norm, maximum))
    return finish(rng, "images", factory, tensors, cross_entropy, batch=(8, 32))


def sequences(rng: Generator) -> TensorTask:
    """A transformer or gated recurrent net models text from a random source."""
    tokens, vocabulary = text(rng)
    length = tokens.shape[1]
    width = 4 * integer(rng, 4, 14)
    factory: Callable[[], nn.Module] = partial(networks.Recurrent, vocabulary, width)
    if rng.random() < 0.75:
        factory = partial(networks.Transformer, vocabulary, length, width, int(rng.integers(1, 4)))
    most = max(3, 128 // length)  # few tokens in a batch pay for the larger networks
    return finish(rng, "sequences", factory, (tokens,), next_token, batch=(3, most))


def encodings(rng: Generator) -> TensorTask:
    """Attention over a set of vectors tells which of some hidden vectors is among them."""
    rows, length, size = 1024, integer(rng, 4, 12), integer(rng, 3, 12)
    hidden = normal(rng, int(rng.integers(3, 9)), size)
    x = normal(rng, rows, length, size)
    y = torch.from_numpy(rng.integers(len(hidden), size=rows))
    places = torch.from_numpy(rng.integers(length, size=(rows, 2)))
    for copy in places.T:
        x[torch.arange(rows), copy] = hidden[y] + log_uniform(rng, 0.1, 1.0) * normal(rng, rows, size)
    width, depth = 4 * integer(rng, 3, 8), int(rng.integers(1, 3))
    factory = classifier(rng, partial(networks.Encoder, size, length, width, depth, len(hidden)))
    return finish(rng, "encodings", factory, (x, y), cross_entropy, batch=(4, max(8, 80 // length)))


def series(rng: Generator) -> TensorTask:
    """A recurrent network sums up what it read: a weighted sum over time, bent by a sine, or its sign."""
    rows, length, size = 1024, integer(rng, 6, 24), int(rng.integers(1, 6))
    x = normal(rng, rows, length, size)
    fading = torch.linspace(-float(rng.uniform(0.0, 3.0)), 0.0, length).exp()
    total = (x @ normal(rng, size, 1))[..., 0] @ fading
    y = torch.sin(log_uniform(rng, 0.3, 3.0) * total / total.std())[:, None]
    sign = bool(rng.random() < 0.5)
    width = integer(rng, 8, 40)
    factory = partial(networks.Reader, size, width, 2 if sign else 1, gated=bool(rng.random() < 0.6))
    if sign:
        return finish(rng, "series", factory, (x, (y[:, 0] > 0).long()), cross_entropy)
    return finish(rng, "series", factory, (x, y / y.std()), squared_error)


class Bowl(nn.Module):
    """A bowl in w; the loss itself is the network's output.

    .. code-block:: text

        Σ λᵢ h(wᵢ - zᵢ) / Σ λᵢ,   h(d) = ½ d²  or, with walls of steepness s,  (cosh(s d) - 1) / s²

    with λ the curvatures. At its bottom it is the same for every s; a step too far up a wall is thrown
    far beyond the other one. The weights begin at ``start`` times random numbers.
    """

    def __init__(self, curvatures: Tensor, steepness: float, start: float = 1.0) -> None:
        super().__init__()
        self.w, self.steepness = nn.Parameter(start * torch.randn(len(curvatures))), steepness
        self.register_buffer("curvatures", curvatures)
        self.curvatures: Tensor

    def forward(self, z: Tensor) -> Tensor:
        """Loss of each row ``z [batch, size]``."""
        d, s = self.w - z, self.steepness
        height = ((s * d).cosh() - 1.0) / s**2 if s else 0.5 * d.square()
        return (height * self.curvatures).sum(dim=-1) / self.curvatures.sum()


def _bowl(rng: Generator, name: str, steepness: float) -> TensorTask:
    """A bowl with a condition number of 1 to 10⁴ and noisy gradients, or, with a single row, without noise."""
    size, rows = integer(rng, 1, 64), 1 if rng.random() < 0.3 else 1024
    curvatures = torch.logspace(0.0, -rng.uniform(0.0, 4.0), size)
    start = log_uniform(rng, 1e-3, 1.0) if rng.random() < 0.5 else 1.0
    z = log_uniform(rng, 1e-3, 1.0) * normal(rng, rows, size) + 2.0 * normal(rng, size)
    factory = partial(Bowl, curvatures, steepness, start)
    return finish(rng, name, factory, (z,), own_loss)


def quadratic(rng: Generator) -> TensorTask:
    """A quadratic bowl."""
    return _bowl(rng, "quadratic", steepness=0.0)


def walls(rng: Generator) -> TensorTask:
    """A bowl whose walls rise exponentially: whoever steps too far is lost."""
    return _bowl(rng, "walls", steepness=log_uniform(rng, 0.3, 2.0))


TRAINING: Weighted = (
    (mlp_classification, 1.5),
    (mlp_regression, 1.5),
    (likelihoods, 0.75),
    (coordinates, 1.0),
    (autoencoder, 1.0),
    (images, 1.5),
    (sequences, 2.0),
    (encodings, 1.0),
    (series, 1.0),
    (quadratic, 0.75),
    (walls, 0.75),
)
"""The families that train the default policy, with the weight that each is drawn with."""


def mixture(rng: Generator, families: Weighted = TRAINING) -> Task | Fit:
    """A task from one of the families, drawn by weight."""
    weights = np.array([weight for _, weight in families])
    family, _ = families[rng.choice(len(families), p=weights / weights.sum())]
    return family(rng)
