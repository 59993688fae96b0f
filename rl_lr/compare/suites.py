"""The three suites: what a policy trained on, what policies are chosen by, and what neither ever saw."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor, nn

from rl_lr.compare.workloads import Workload, held_out, parted
from rl_lr.optimizers import OptimizerSpec
from rl_lr.tasks import Always, resolve
from rl_lr.tasks.check import check_trainable
from rl_lr.tasks.choosing import CHOOSING
from rl_lr.tasks.families import TRAINING
from rl_lr.tasks.ingredients import Weighted
from rl_lr.tasks.task import Family, Fit, Task
from rl_lr.tasks.tensors import TensorTask

Suite = Literal["heldout", "validation", "train-families", "own"]

DRAWS = 7
"""Tasks that policies are chosen by, from each family: with three, a policy that loses runs looked safe."""

TRAINING_DRAWS = 3
"""The same of the families that policies train on, and of one's own."""


def suite(name: Literal["heldout", "validation", "train-families"]) -> list[Workload]:
    """The workloads of a suite, always the same.

    Args:
        name: ``"train-families"``, unseen instances of what policies train on; ``"validation"``,
            other families, for choosing between policies; ``"heldout"``, used for neither.
    """
    if name == "heldout":
        return held_out()
    return _drawn(CHOOSING, DRAWS) if name == "validation" else _drawn(TRAINING, TRAINING_DRAWS)


def own_workloads(tasks: "Sequence[str | Task | Fit | Family]", steps: int) -> list[Workload]:
    """Somebody's own tasks, from three seeds each; of a family three tasks.

    Rows that a task keeps apart as ``held_out`` are what no run trains on, or else a fifth of its rows.

    Args:
        tasks: as :func:`rl_lr.train` takes them.
        steps: horizon; a fit has its own.

    Raises:
        ValueError: if there is no task, one breaks its promises (:mod:`rl_lr.tasks.check`) or has too few rows to
            keep some apart, or two have the same name.
    """
    workloads = []
    for task in tasks:
        family = resolve(task)
        check_trainable(family)
        draws = 1 if isinstance(family, Always) else TRAINING_DRAWS
        for draw in range(draws):
            drawn = family(np.random.default_rng([2**20, draw]))
            if isinstance(drawn, Fit):
                workloads.append(Workload(drawn, drawn.horizon(), seeds=3))
            else:
                own = getattr(drawn, "held_out", ())
                name = drawn.name if draws == 1 else f"{drawn.name} {draw + 1}"
                workloads.append(Workload(RowsApart(drawn, name, own), steps, seeds=3))
                _check_rows_apart(workloads[-1])
    _check_names([one.task.name for one in workloads])
    return workloads


def _check_rows_apart(workload: Workload) -> None:
    assert not isinstance(workload.task, Fit)
    if not all(len(rows[0]) for rows in (workload.task.data(), workload.task.held_out)):
        raise ValueError(
            f"Task {workload.task.name!r} has too few rows to keep a fifth of them apart: give it more, or a held_out "
            f"of its own."
        )


def _check_names(names: list[str]) -> None:
    if not names:
        raise ValueError("No task to compare on: name at least one, or a suite.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"Two tasks are called {twice[0]!r}, which is all that tells them apart in a table: give one of them another "
            f"name."
        )


@dataclass(frozen=True)
class RowsApart:
    """A task with rows that no run trains on: its own ``held_out``, or else a fifth of those it has."""

    task: Task
    """The whole of it."""
    name: str
    """As tables call it."""
    own: tuple[Tensor, ...] = ()
    """Rows that it keeps apart itself; empty if there are none."""

    @property
    def optimizer(self) -> OptimizerSpec:
        """Of the task."""
        return self.task.optimizer

    @property
    def batch_size(self) -> int:
        """Of the task."""
        return self.task.batch_size

    def model(self) -> nn.Module:
        """Of the task."""
        return self.task.model()

    def data(self) -> tuple[Tensor, ...]:
        """The rows that are trained on."""
        return self.task.data() if self.own else parted(*self.task.data())[0]

    @property
    def held_out(self) -> tuple[Tensor, ...]:
        """The others."""
        return self.own or parted(*self.task.data())[1]

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        """Of the task."""
        return self.task.loss(model, *batch)


def _drawn(families: Weighted, draws: int) -> list[Workload]:
    workloads = []
    for index, (family, _) in enumerate(families):
        for draw in range(draws):
            rng = np.random.default_rng([2**20, index, draw])  # far from the seeds of any training
            steps = round(math.exp(rng.uniform(math.log(300), math.log(3000))))
            task = family(rng)
            assert isinstance(task, TensorTask)
            kept, apart = parted(*task.tensors)
            own = replace(task, name=f"{task.name} {draw + 1}", tensors=kept, held_out=apart)
            workloads.append(Workload(own, steps, seeds=1))
    return workloads
