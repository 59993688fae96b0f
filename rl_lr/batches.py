"""Mini-batches of many runs at once, and the fixed sample that results are measured on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rl_lr.tasks.task import Task

EVALUATION_ROWS = 512
"""Rows of the fixed sample on which a run's result is measured."""

_CHUNK = 64  # mini-batches drawn at once, so that the per-run generators cost little


class Batches:
    """Mini-batches of many runs: row indices drawn from each run's own generator.

    A batch of as many rows as there are is all of them, in their order.

    Args:
        task: whose rows are drawn.
        seeds: one per run; the same seed always draws the same rows.
        device: where the rows are wanted.
    """

    def __init__(self, task: Task, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self._data = tuple(tensor.to(device) for tensor in task.data())
        self._shape = (_CHUNK, task.batch_size)
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._drawn: list[Tensor] = []

    def draw(self) -> Tensor:
        """Indices of the next step's rows, ``[runs, batch]``."""
        count = len(self._data[0])
        if self._shape[1] == count:
            every = torch.arange(count, device=self._data[0].device)
            return every.expand(len(self._generators), count)
        if not self._drawn:
            chunks = [torch.randint(count, self._shape, generator=g) for g in self._generators]
            self._drawn = list(torch.stack(chunks, dim=1).to(self._data[0].device).unbind())[::-1]
        return self._drawn.pop()

    def rows(self, index: Tensor) -> tuple[Tensor, ...]:
        """The rows of an index of any shape: each tensor ``[*index.shape, ...]``."""
        flat = index.reshape(-1)  # index_select is several times faster than indexing by a matrix
        return tuple(t.index_select(0, flat).view(*index.shape, *t.shape[1:]) for t in self._data)

    def fixed(self) -> tuple[Tensor, ...]:
        """The sample on which results are measured, the same for every run: ``[rows, ...]``."""
        count = len(self._data[0])
        chosen = torch.linspace(0, count - 1, min(count, EVALUATION_ROWS)).round().long()
        return self.rows(chosen.to(self._data[0].device))
