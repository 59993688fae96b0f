"""What a task is: how to build an optimizee, its data and its loss."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from rl_lr.optimizers import OptimizerSpec


@runtime_checkable
class Task(Protocol):
    """One training problem, independent of learning rates and seeds.

    ``name``, ``optimizer`` (its ``lr`` is the rate that a person would start from) and
    ``batch_size`` (rows drawn uniformly with replacement) may be plain attributes. A complete
    task::

        class Parabola:
            name = "parabola"
            optimizer = OptimizerSpec("sgd", lr=0.1)
            batch_size = 8

            def model(self):
                return torch.nn.Linear(3, 1)

            def data(self):
                return (torch.randn(64, 3, generator=torch.Generator().manual_seed(0)),)

            def loss(self, model, x):
                return model(x).square().mean()
    """

    @property
    def name(self) -> str:
        """What logs call it."""
        ...

    @property
    def optimizer(self) -> OptimizerSpec:
        """Which optimizer trains it, and its central rate."""
        ...

    @property
    def batch_size(self) -> int:
        """Rows of one mini-batch."""
        ...

    def model(self) -> nn.Module:
        """A freshly initialised network; the caller has seeded torch's global generator."""
        ...

    def data(self) -> tuple[Tensor, ...]:
        """The training set in memory: tensors that share their first dimension, the rows.

        The same tensors at every call: several runs share them.
        """
        ...

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        """The scalar training loss of ``model`` on rows of :meth:`data`."""
        ...


Family = Callable[[np.random.Generator], Task]
"""Draws a task; the same generator state gives the same task."""
