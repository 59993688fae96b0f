"""What is kept of a run, and what every arm of a comparison can do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from rl_lr.compare.workloads import Workload
from rl_lr.rollout import Draw
from rl_lr.schedules import BaseSchedule
from rl_lr.tasks.task import central_rate

LOOKS = 14
"""Times that a run is measured on the fixed sample: one look costs as much as several steps."""


@dataclass(frozen=True)
class Track:
    """What one run did."""

    factor: float
    """Base rate over the workload's centre."""
    seed: int
    """Of initial weights and mini-batches."""
    initial: float
    """Loss of the initial weights on the fixed sample."""
    final: float
    """Loss at the end on the fixed sample; NaN if the run was lost."""
    held_out: float
    """Loss at the end on rows that no run trained on."""
    steps: tuple[int, ...]
    """When the loss was looked at; the last time is the end."""
    losses: tuple[float, ...]
    """On the fixed sample."""
    rates: tuple[float, ...]
    """Learning rate of the step that followed each look."""


@dataclass(frozen=True)
class Start:
    """Where a run begins."""

    factor: float
    """Base rate over the workload's centre."""
    seed: int
    """Of initial weights and mini-batches."""


class Arm(Protocol):
    """A way of setting learning rates."""

    @property
    def name(self) -> str:
        """As tables call it."""
        ...

    @property
    def facts(self) -> list[Any]:
        """All that its runs depend on beside the workload, as JSON can write it."""
        ...

    def run(self, workload: Workload) -> list[Track]:
        """Every start of a workload."""
        ...

    def rows(self, tracks: Sequence[Track]) -> dict[str, list[Track]]:
        """Its runs on a workload by the line of a table that they belong to."""
        ...


def starts(workload: Workload, factors: Sequence[float]) -> list[Start]:
    """Runs from every base rate and seed, in this order."""
    return [Start(factor, seed) for factor in factors for seed in range(workload.seeds)]


def drawn(workload: Workload, begun: Sequence[Start], schedule: BaseSchedule = "cosine") -> Draw:
    """The same as the engine wants them."""
    centre = central_rate(workload.task)
    rates = tuple(centre * start.factor for start in begun)
    return Draw(workload.task, tuple(start.seed for start in begun), rates, workload.steps, schedule)


class Looks:
    """Collects what is seen of runs on their way."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._losses: list[Tensor] = []
        self._rates: list[Tensor] = []

    def add(self, step: int, losses: Tensor, rates: Tensor) -> None:
        """One look, ``[runs]`` each, after ``step`` steps."""
        self._steps.append(step)
        self._losses.append(losses)
        self._rates.append(rates)

    def tracks(self, begun: Sequence[Start], initial: Tensor, held_out: Tensor) -> list[Track]:
        """What became of each run, after the last look."""
        losses, rates = (torch.stack(rows, dim=1).tolist() for rows in (self._losses, self._rates))
        columns = (begun, initial.tolist(), held_out.tolist(), losses, rates)
        return [
            Track(
                start.factor,
                start.seed,
                first,
                seen[-1],
                apart,
                tuple(self._steps),
                tuple(map(_short, seen)),
                tuple(map(_short, used)),
            )
            for start, first, apart, seen, used in zip(*columns, strict=True)
        ]


def _short(value: float) -> float:
    """As many digits as a curve needs."""
    return float(f"{value:.4g}")
