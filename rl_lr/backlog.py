"""Losses of steps that the guard is told of later, all at once."""

import torch
from torch import Tensor

_BLOCK = 64  # steps in a tensor: the allocator of an accelerator gives half a KiB to each, however small


class Backlog:
    """Losses that wait on an accelerator for the next decision.

    To tell the guard of each as it comes would take twenty small kernels a step, for cuts that nobody reads before
    the next decision. They take 8 bytes for each step and row.
    """

    def __init__(self) -> None:
        self._blocks: list[Tensor] = []  # [_BLOCK, rows] each
        self._newest: list[Tensor] = []  # [rows] each

    def add(self, loss: Tensor) -> None:
        """Keep the losses of a step, ``[rows]``."""
        self._newest.append(loss)
        if len(self._newest) == _BLOCK:
            self._blocks.append(torch.stack(self._newest))
            self._newest = []

    def take(self) -> Tensor | None:
        """All that waits, ``[steps, rows]``, which then waits no longer; None if nothing does."""
        blocks, newest = self._blocks, self._newest
        self._blocks, self._newest = [], []
        if newest:
            blocks.append(torch.stack(newest))
        return torch.cat(blocks) if blocks else None
