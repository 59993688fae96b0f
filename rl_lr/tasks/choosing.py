"""Families for choosing between policies: none is trained on, none is in the held-out suite."""

import math
from functools import partial

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from rl_lr.tasks.ingredients import Weighted, normal, usual
from rl_lr.tasks.natural import NATURAL
from rl_lr.tasks.plateaus import PLATEAUS
from rl_lr.tasks.tensors import TensorTask, cross_entropy, own_loss, squared_error


class GatedTable(nn.Module):
    """Embedded categories beside numbers, then gated linear units (Dauphin et al., 1612.08083)."""

    def __init__(self, levels: int, width: int) -> None:
        super().__init__()
        self.embed, self.enter = nn.Embedding(levels, 6), nn.Linear(6 + 8, 2 * width)
        self.middle, self.head = nn.Linear(width, 2 * width), nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Rows ``[batch, 9]``, the category first → ``[batch, 1]``."""
        joined = torch.cat((self.embed(x[:, 0].long()), x[:, 1:]), dim=-1)
        y: Tensor = self.head(nn.functional.glu(self.middle(nn.functional.glu(self.enter(joined)))))
        return y


def gated_table(rng: Generator) -> TensorTask:
    """Numbers and a category interact in a noisy target."""
    levels = int(rng.integers(4, 30))
    category, numbers = torch.from_numpy(rng.integers(levels, size=1500)), normal(rng, 1500, 8)
    slopes = normal(rng, levels, 8)
    y = (numbers * slopes[category]).sum(dim=-1, keepdim=True) + numbers[:, :1].square()
    y = y / y.std() + float(rng.choice((0.0, 0.3))) * normal(rng, 1500, 1)
    x = torch.cat((category[:, None].float(), numbers), dim=1)
    return usual(
        rng, "gated-table", partial(GatedTable, levels, int(rng.integers(16, 64))), (x, y), squared_error
    )


def waves(rng: Generator) -> TensorTask:
    """One-dimensional convolutions, group-normalised or not, tell noisy oscillations apart."""
    classes, length = int(rng.integers(3, 8)), 48
    frequencies = rng.uniform(1.0, 12.0, classes)
    y = rng.integers(classes, size=1200)
    time = np.linspace(0.0, 1.0, length)
    phase = 2 * np.pi * rng.random((1200, 1))
    x = np.sin(2 * np.pi * frequencies[y][:, None] * time + phase) + rng.normal(0.0, 0.7, (1200, length))
    channels, norm = 2 * int(rng.integers(3, 8)), bool(rng.random() < 0.5)

    def factory() -> nn.Module:
        return nn.Sequential(
            nn.Conv1d(1, channels, 5, stride=2),
            *([nn.GroupNorm(2, channels)] if norm else []),
            nn.LeakyReLU(),
            nn.Conv1d(channels, 2 * channels, 5, stride=2),
            nn.LeakyReLU(),
            nn.Flatten(),
            nn.Linear(18 * channels, classes),
        )

    rows = torch.from_numpy(x.astype(np.float32))[:, None]
    return usual(rng, "waves", factory, (rows, torch.from_numpy(y)), cross_entropy)


class Forecaster(nn.Module):
    """A plain recurrent layer (Elman, 1990) reads a series and tells its next value."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.recur, self.head = nn.RNN(1, width, batch_first=True), nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Series ``[batch, length, 1]`` → ``[batch, 1]``."""
        y: Tensor = self.head(self.recur(x)[0][:, -1])
        return y


def forecast(rng: Generator) -> TensorTask:
    """The next value of a logistic map seen through noise, or of two oscillations."""
    series = np.empty((1500, 13), dtype=np.float32)
    if rng.random() < 0.5:
        series[:, 0] = rng.random(1500)
        for step in range(12):
            series[:, step + 1] = 3.9 * series[:, step] * (1.0 - series[:, step])
    else:
        time, phase = np.arange(13), 2 * np.pi * rng.random((2, 1500, 1))
        series[:] = np.sin(rng.uniform(0.2, 1.5) * time + phase[0]) + np.sin(0.7 * time + phase[1])
    x, y = torch.from_numpy(series[:, :-1, None].copy()), torch.from_numpy(series[:, -1:].copy())
    return usual(rng, "forecast", partial(Forecaster, int(rng.integers(12, 40))), (x, y), squared_error)


class Bag(nn.Module):
    """A network of sets (Zaheer et al., 1703.06114): rows are summed, so their order is lost."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(3, width), nn.Mish(), nn.Linear(width, width), nn.Mish())
        self.head = nn.Sequential(nn.Linear(width, width), nn.Mish(), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Sets ``[batch, size, 3]`` → ``[batch, 1]``."""
        y: Tensor = self.head(self.each(x).mean(dim=-2))
        return y


def sets(rng: Generator) -> TensorTask:
    """The spread of ten points in space, with or without noise."""
    x = normal(rng, 1200, 10, 3) * torch.from_numpy(rng.random((1200, 1, 1), dtype=np.float32))
    y = x.norm(dim=-1).amax(dim=-1, keepdim=True)
    y = (y - y.mean()) / y.std() + float(rng.choice((0.0, 0.2))) * normal(rng, 1200, 1)
    return usual(rng, "sets", partial(Bag, int(rng.integers(16, 48))), (x, y), squared_error)


class Matcher(nn.Module):
    """Embeds two views of the same thing; the loss tells the pairs of a batch apart (1807.03748)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Linear(20, width), nn.ReLU(), nn.Linear(width, 8))
        self.right = nn.Sequential(nn.Linear(20, width), nn.ReLU(), nn.Linear(width, 8))

    def forward(self, x: Tensor) -> Tensor:
        """Pairs ``[batch, 2, 20]`` → logits ``[batch, batch]``."""
        left, right = self.left(x[:, 0]), self.right(x[:, 1])
        return nn.functional.normalize(left, dim=-1) @ nn.functional.normalize(right, dim=-1).mT / 0.2


def _own_pair(logits: Tensor, x: Tensor) -> Tensor:
    return cross_entropy(logits, torch.arange(len(x), device=x.device))


def pairs(rng: Generator) -> TensorTask:
    """Two noisy projections of the same hidden numbers must find each other."""
    hidden = normal(rng, 1024, 6)
    views = torch.stack([torch.tanh(hidden @ normal(rng, 6, 20)) for _ in range(2)], dim=1)
    x = views + float(rng.choice((0.1, 0.5))) * normal(rng, 1024, 2, 20)
    return usual(rng, "pairs", partial(Matcher, int(rng.integers(24, 64))), (x,), _own_pair)


class DeepLinear(nn.Module):
    """A product of matrices: a linear map whose loss has plateaus and cliffs (Saxe et al., 1312.6120)."""

    def __init__(self, depth: int, gain: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(12, 12, bias=False) for _ in range(depth)))
        for layer in self.layers:
            nn.init.orthogonal_(layer.weight, gain)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, 12]`` → same."""
        y: Tensor = self.layers(x)
        return y


def deep_linear(rng: Generator) -> TensorTask:
    """A linear map of falling singular values, learned by three to six layers."""
    spectrum = torch.logspace(0.0, -float(rng.uniform(0.5, 2.0)), 12)
    x = normal(rng, 1024, 12)
    y = 2.0 * x @ torch.linalg.qr(normal(rng, 12, 12))[0] * spectrum + 0.05 * normal(rng, 1024, 12)
    factory = partial(DeepLinear, int(rng.integers(3, 7)), float(rng.uniform(0.6, 1.0)))
    return usual(rng, "deep-linear", factory, (x, y), squared_error)


class Counts(nn.Module):
    """Log rates of a Poisson regression, linear or with a hidden layer; its output is each row's loss."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        hidden = [nn.Linear(inputs, width), nn.Softplus()] if width else []
        self.log_rate = nn.Sequential(*hidden, nn.Linear(width or inputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Rows ``[batch, inputs + 1]``, the count last → ``[batch]``, deviance over two, in nats."""
        log_rate, count = self.log_rate(x[:, :-1])[:, 0], x[:, -1]
        loss: Tensor = log_rate.exp() - count * log_rate + torch.xlogy(count, count) - count
        return loss


def counts(rng: Generator) -> TensorTask:
    """Counts whose rate depends on badly scaled inputs."""
    inputs = int(rng.integers(5, 20))
    x = normal(rng, 1500, inputs)
    log_rate = x @ normal(rng, inputs, 1)[:, 0] / math.sqrt(inputs) + float(rng.uniform(-0.5, 1.0))
    y = torch.from_numpy(rng.poisson(log_rate.exp().numpy()).astype(np.float32))
    scaled = x * torch.logspace(0.5, -float(rng.uniform(0.0, 1.5)), inputs)
    factory = partial(Counts, inputs, int(rng.choice((0, 24))))
    return usual(rng, "counts", factory, (torch.cat((scaled, y[:, None]), dim=1),), own_loss)


CHOOSING: Weighted = tuple(
    (family, 1.0)
    for family in (gated_table, waves, forecast, sets, pairs, deep_linear, counts, *PLATEAUS, *NATURAL)
)
"""The families that policies are chosen by."""
