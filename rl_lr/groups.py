"""Groups of runs that stop at decisions, whoever steps them: the engine, or a loop of its own."""

from typing import Protocol

from torch import Tensor

from rl_lr.config import ControlConfig
from rl_lr.rollout import Draw, Rollout
from rl_lr.sketches import Granularity
from rl_lr.tasks.task import Fit


class Group(Protocol):
    """Runs under control that stop together at decisions: :class:`rl_lr.rollout.Rollout`, or the fits of a Trainer.

    First :meth:`signals` tells what the policy sees, then :meth:`advance` acts and runs on.
    """

    @property
    def rows(self) -> int:
        """What the policy decides about, one by one."""
        ...

    @property
    def initial_loss(self) -> Tensor:
        """``[runs]``."""
        ...

    @property
    def final_loss(self) -> Tensor | None:
        """``[runs]``; None before the end."""
        ...

    @property
    def done(self) -> bool:
        """Whether the horizon is reached."""
        ...

    @property
    def step(self) -> int:
        """Optimizer steps made."""
        ...

    def signals(self) -> Tensor:
        """What the policy sees at the open decision, ``[rows, NUM_SIGNALS]``; call it once."""
        ...

    def advance(self, actions: Tensor) -> Tensor:
        """Act, ``[rows]``, run to the next decision or the end, and return the rewards ``[runs]``."""
        ...

    def look(self) -> tuple[Tensor, Tensor]:
        """Loss now, and rate of the coming step, ``[runs]`` float64 each."""
        ...

    def close(self) -> None:
        """Leave nothing behind; called at the end, and whenever runs are given up."""
        ...

    def held_out_loss(self) -> Tensor:
        """On what no run trains on, ``[runs]``."""
        ...


def begin(
    drawn: Draw,
    control: ControlConfig | None = None,
    granularity: Granularity = "network",
    average: bool = False,
) -> Group:
    """Runs of a draw, before their first decision; with ``average`` their results are averaged weights.

    Raises:
        ValueError: for a rate for each tensor, or averaged weights, of a fit.
    """
    if not isinstance(drawn.task, Fit):
        return Rollout(drawn, control, granularity=granularity, average=average)
    if granularity != "network":
        raise ValueError(f"{drawn.task.name!r} is a fit, and fits are stepped with one rate for the network.")
    if average:
        raise ValueError(f"{drawn.task.name!r} is a fit, and the results of fits are their last weights.")
    return drawn.task.begin(drawn, control or ControlConfig())
