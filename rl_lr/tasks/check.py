"""Whether a task keeps the promises that training on it relies on."""

import numpy as np
import torch
from torch import Tensor

from rl_lr.engine import Objective, build_objective
from rl_lr.tasks.task import Family, Task


def check_deterministic(family: Family) -> None:
    """Draw a task twice from the same generator state and compare rows, weights and loss.

    Raises:
        ValueError: if they differ: what, and what to do.
    """
    first, second = (family(np.random.default_rng(0)) for _ in range(2))
    rows = [[t[: first.batch_size] for t in task.data()] for task in (first, second)]
    if not _same(first.data(), second.data()):
        raise _not_deterministic(
            first, "data() returned other rows when it was called again", "a generator of its own"
        )
    objectives = [build_objective(task, seed=0) for task in (first, second)]
    weights = [list(objective.state_dict().values()) for objective in objectives]
    if not _same(*weights):
        raise _not_deterministic(
            first, "model() gave other weights under the same seed", "torch's global generator"
        )
    losses = [_loss(o, r) for o, r in zip(objectives, rows, strict=True)]
    if not _same(*losses):
        raise _not_deterministic(
            first, "loss() gave other values for the same weights and rows", "torch's global generator"
        )


def _loss(objective: Objective, rows: list[Tensor]) -> list[Tensor]:
    """Of the first rows, in training mode, under a seed."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        return [objective(*rows)]


def _same(first: "list[Tensor] | tuple[Tensor, ...]", second: "list[Tensor] | tuple[Tensor, ...]") -> bool:
    """Whether two lists hold the same tensors; NaN equals NaN."""
    pairs = zip(first, second, strict=False)
    return len(first) == len(second) and all(
        a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs
    )


def _not_deterministic(task: Task, what: str, source: str) -> ValueError:
    return ValueError(
        f"Task {task.name!r} is not deterministic: {what}, so no training on it could be made again or resumed; "
        f"draw its random numbers from {source}, freshly seeded."
    )
