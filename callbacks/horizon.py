"""How many optimizer steps a fit will make."""

import math

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import GradientAccumulationScheduler

from rl_lr.callbacks.checks import callbacks_of


def horizon(trainer: Trainer) -> int | None:
    """Steps of each optimizer, from the Trainer's own settings; None if nothing there tells.

    In manual optimization a batch is taken to be a step of every optimizer, and ``max_steps``, which counts
    the steps of all of them, is shared evenly.
    """
    sharing = 1 if trainer.lightning_module.automatic_optimization else len(trainer.optimizers)
    limits = [math.inf if trainer.max_steps == -1 else trainer.max_steps // sharing]
    if trainer.max_epochs not in (None, -1):
        limits.append(_steps_of_epochs(trainer, trainer.max_epochs))
    steps = min(limits)
    return int(steps) if 1 <= steps < math.inf else None


def _steps_of_epochs(trainer: Trainer, epochs: int) -> float:
    """Steps of so many epochs; infinite if the data has no length."""
    batches = float(trainer.num_training_batches)
    if not math.isfinite(batches):
        return math.inf
    planned = callbacks_of(trainer, GradientAccumulationScheduler)
    if not planned:
        return math.ceil(batches / trainer.accumulate_grad_batches) * epochs
    return sum(math.ceil(batches / planned[0].get_accumulate_grad_batches(epoch)) for epoch in range(epochs))
