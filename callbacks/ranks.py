"""What makes the ranks of a Trainer decide alike."""

from collections.abc import Callable

import torch
from pytorch_lightning import Trainer
from torch import Tensor


def mean_over_ranks(trainer: Trainer) -> Callable[[Tensor], Tensor] | None:
    """What makes all ranks decide on the same numbers; None where there is one."""
    if trainer.world_size == 1:
        return None
    return lambda value: torch.as_tensor(trainer.strategy.reduce(value.clone(), reduce_op="mean"))
