"""What it means that something does not fit into memory."""

import torch

from rl_lr.tasks.task import Fit, Task


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed; torch's own on the CPU is a RuntimeError like any other."""
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or "can't allocate memory" in str(error)


def too_large(task: Task | Fit) -> MemoryError:
    """What to raise when not even one run of a task fits."""
    return MemoryError(
        f"A single run of task {task.name!r} does not fit into memory: make its network or batch smaller."
    )
