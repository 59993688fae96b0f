"""What families are made of: drawn numbers, and all that they vary alike.

What varies (optimizer, batch, scale of loss and weights) varies because a policy that has seen it
vary cannot lean on it.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from rl_lr.optimizers import CENTRES, OptimizerSpec
from rl_lr.tasks import wrappers
from rl_lr.tasks.task import Family
from rl_lr.tasks.tensors import Criterion, TensorTask

Weighted = tuple[tuple[Family, float], ...]
"""Families, with the weight that each is drawn with."""

_FEW = 256  # rows that may be a batch


def log_uniform(rng: Generator, low: float, high: float) -> float:
    """Between ``low`` and ``high``, every factor as likely."""
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def integer(rng: Generator, low: int, high: int) -> int:
    """Log-uniform over the integers from low to high."""
    return round(log_uniform(rng, low, high))


def _seed(rng: Generator) -> int:
    return int(rng.integers(2**31))


def normal(rng: Generator, *shape: int) -> Tensor:
    """Standard normal numbers, float32."""
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def _optimizer(rng: Generator, loss_scale: float = 1.0) -> OptimizerSpec:
    """One of the four with drawn constants, centred where a person might start."""
    decay = log_uniform(rng, 1e-4, 1e-1) if rng.random() < 0.4 else 0.0
    betas = (float(rng.choice((0.8, 0.9, 0.9, 0.95))), float(rng.choice((0.95, 0.99, 0.999, 0.999))))
    momentum = float(rng.choice((0.0, 0.9, 0.9, 0.95)))
    added = 0.1 * decay * loss_scale  # to the gradient, which the scale of the loss multiplies
    kind = rng.random()
    if kind < 0.4:
        return OptimizerSpec("adamw", lr=3e-3, betas=betas, weight_decay=decay)
    if kind < 0.55:
        return OptimizerSpec("adam", lr=3e-3, betas=betas, weight_decay=added)
    if kind < 0.7:
        centre = 3e-3 * (1.0 - momentum)
        return OptimizerSpec("rmsprop", lr=centre, momentum=momentum, betas=betas, weight_decay=added)
    centre = 0.5 * (1.0 - momentum) / loss_scale
    return OptimizerSpec("sgd", lr=centre, momentum=momentum, weight_decay=added)


def _scaled(criterion: Criterion, scale: float) -> Criterion:
    """The criterion times a constant, which no policy may notice."""

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return scale * criterion(output, target)

    return loss


def _rescaled(rng: Generator, factory: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Half of the time the network itself, else one with other scales, another initial gain, or a small head."""
    if rng.random() < 0.5:
        return factory
    log_scale, gain = float(rng.choice((0.0, 0.7))), log_uniform(rng, 0.5, 2.0)
    head = log_uniform(rng, 1e-3, 1.0) if rng.random() < 0.5 else 1.0
    seed = _seed(rng)
    return lambda: wrappers.Rescaled(factory(), log_scale, gain, head, seed)


def finish(
    rng: Generator,
    name: str,
    factory: Callable[[], nn.Module],
    tensors: tuple[Tensor, ...],
    criterion: Criterion,
    batch: tuple[int, int] = (8, 64),
) -> TensorTask:
    """Draw what every family varies alike: optimizer, batch size, scale of loss and weights.

    Where there are few rows, a batch is for some tasks all of them: nothing is random then.
    """
    count = len(tensors[0])
    rows = min(integer(rng, *batch), count)
    if count <= _FEW and rng.random() < 0.4:
        rows = count
    scale = log_uniform(rng, 0.01, 100.0) if rng.random() < 0.3 else 1.0
    return TensorTask(
        name=name,
        optimizer=_optimizer(rng, scale),
        batch_size=rows,
        factory=_rescaled(rng, factory),
        tensors=tensors,
        criterion=criterion if scale == 1.0 else _scaled(criterion, scale),
    )


def usual(
    rng: Generator,
    name: str,
    factory: Callable[[], nn.Module],
    tensors: tuple[Tensor, ...],
    criterion: Criterion,
    batches: tuple[int, ...] = (16, 32, 64),
) -> TensorTask:
    """As people train: any of the four optimizers with its usual constants, and a usual batch."""
    kind = ("sgd", "adam", "adamw", "rmsprop")[rng.integers(4)]
    spec = OptimizerSpec(kind, lr=CENTRES[kind], weight_decay=0.01 * float(rng.random() < 0.5))  # type: ignore[arg-type]
    return TensorTask(name, spec, int(rng.choice(batches)), factory, tensors, criterion)
