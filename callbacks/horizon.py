"""How many optimizer steps a fit has still to make."""

import math
from typing import Any

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


class Horizon:
    """How long a fit is, by the Trainer's settings.

    Attributes:
        left: :func:`steps_left`.
        settings: all that it was reckoned from, but what is done already: the same where a fit goes on as planned.
    """

    def __init__(self, trainer: Trainer) -> None:
        planned = callbacks_of(trainer, GradientAccumulationScheduler)
        accumulated = planned[0].scheduling if planned else trainer.accumulate_grad_batches
        self.left = steps_left(trainer)
        self.settings = [
            trainer.max_steps,
            trainer.max_epochs,
            float(trainer.num_training_batches),
            accumulated,
        ]

    def total(self, saved: dict[str, Any] | None, planned: list[Any]) -> int | None:
        """Steps of an optimizer from the first to the last; None if unknown.

        Args:
            saved: state of its controller, if it is resumed: steps that were made may not have counted there.
            planned: settings of the fit that is resumed.
        """
        if self.left is None:
            return None
        if saved is None:
            return max(1, self.left)
        as_planned: int | None = saved["total_steps"]
        return as_planned if planned == self.settings else max(1, saved["step"] + self.left)


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
        batch: Any = trainer.fit_loop.epoch_loop.batch_progress.current
        done = batch.processed  # it is completed only after callbacks have saved
    whole = sum(steps(epoch, batches) for epoch in range(trainer.current_epoch, epochs))
    return whole - steps(trainer.current_epoch, done)
