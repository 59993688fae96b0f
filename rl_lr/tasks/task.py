"""What a task is: how to build an optimizee, its data and its loss."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from rl_lr.optimizers import OptimizerSpec

if TYPE_CHECKING:
    from rl_lr.config import ControlConfig
    from rl_lr.groups import Group
    from rl_lr.rollout import Draw


@runtime_checkable
class Task(Protocol):
    """One training problem, independent of learning rates and seeds.

    ``name``, ``optimizer`` (its ``lr`` is the rate that a person would start from) and
    ``batch_size`` (rows drawn uniformly with replacement, or all if there are as many) may be plain attributes. A complete
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
        """The scalar training loss of ``model`` on rows of :meth:`data`, above zero at the initial weights."""
        ...


@runtime_checkable
class Fit(Protocol):
    """A task whose runs are somebody else's loop, such as a Trainer's (:class:`rl_lr.envs.LightningFit`).

    The engine has no part in them. Base rates are multiples of the loop's own.
    """

    @property
    def name(self) -> str:
        """What logs call it."""
        ...

    def horizon(self) -> int:
        """Optimizer steps of a run."""
        ...

    def begin(self, drawn: "Draw", control: "ControlConfig") -> "Group":
        """Runs that stop at decisions."""
        ...


Family = Callable[[np.random.Generator], "Task | Fit"]
"""Draws a task; the same generator state gives the same task."""


def steppable(task: "Task | Fit") -> Task:
    """The task, if an engine or a loop of ours can step it.

    Raises:
        TypeError: for a fit.
    """
    if isinstance(task, Fit):
        raise TypeError(
            f"{task.name!r} is a fit, a loop of its own: only training, comparison and its own environment step it."
        )
    return task


def central_rate(task: "Task | Fit") -> float:
    """The rate that a person would start from; of a fit 1, its loop's own."""
    return 1.0 if isinstance(task, Fit) else task.optimizer.lr
