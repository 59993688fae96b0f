"""How many optimizer steps a fit has still to make."""

import math

from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import GradientAccumulationScheduler

from rl_lr.callbacks.checks import callbacks_of


def steps_left(trainer: Trainer) -> int | None:
    """Steps of each optimizer until the end of a fit that starts or is resumed; None if its settings do not tell.

    In manual optimization a batch is taken to be a step of every optimizer, and ``max_steps``, which counts
    the steps of all of them, is shared evenly.
    """
    limits = []
    if trainer.max_steps != -1:
        sharing = 1 if trainer.lightning_module.automatic_optimization else len(trainer.optimizers)
        limits.append((trainer.max_steps - trainer.global_step) // sharing)
    if trainer.max_epochs not in (None, -1) and math.isfinite(trainer.num_training_batches):
        limits.append(_steps_of_epochs(trainer, int(trainer.num_training_batches), trainer.max_epochs))
    return max(0, min(limits)) if limits else None


def warn_of_no_horizon() -> None:
    """Say what becomes of a fit that nobody knows the length of."""
    rank_zero_warn(
        "The Trainer cannot tell how many optimizer steps this fit will make, so RLLearningRate will not "
        "anneal the rate: set max_steps, or max_epochs with data of known length, or pass total_steps=...; or pass "
        "average=True, which makes up for it where nobody can tell."
    )


def _steps_of_epochs(trainer: Trainer, batches: int, epochs: int) -> int:
    """Steps of the epochs to come, and of what is left of one that was interrupted."""
    planned = callbacks_of(trainer, GradientAccumulationScheduler)

    def steps(epoch: int, batches: int) -> int:
        accumulated = (
            planned[0].get_accumulate_grad_batches(epoch) if planned else trainer.accumulate_grad_batches
        )
        return math.ceil(batches / accumulated)

    begun, done = trainer.fit_loop.epoch_progress.current, 0
    if begun.ready > begun.completed:
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
    whole = sum(steps(epoch, batches) for epoch in range(trainer.current_epoch, epochs))
    return whole - steps(trainer.current_epoch, done)
