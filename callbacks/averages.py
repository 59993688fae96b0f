"""Averaged weights in a fit: in the module while it is validated, and in its checkpoints."""

from collections.abc import Iterable
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from rl_lr.scheduler import RLScheduler

TRAINED = "current_model_state"
"""Where a checkpoint holds the weights that are trained, as those of Lightning's ``WeightAveraging`` do."""


class Averages:
    """Those that the schedulers of a fit keep, if they do.

    Several may hold averages of the same buffers: what is put in last is taken out first.
    """

    def __init__(self, schedulers: Iterable[RLScheduler] = ()) -> None:
        self._averages = [one.average for one in schedulers if one.average is not None]

    def show(self) -> None:
        """Put them in the place of the weights."""
        for one in self._averages:
            one.show()

    def hide(self) -> None:
        """Put the weights back."""
        for one in reversed(self._averages):
            one.hide()

    def keep(self) -> None:
        """Make them the weights, for good."""
        for one in self._averages:
            one.keep()

    def into(self, checkpoint: dict[str, Any]) -> None:
        """Let its ``state_dict`` hold averaged weights, and :data:`TRAINED` those to train on."""
        if not self._averages:
            return
        trained = averaged = checkpoint["state_dict"]
        for one in self._averages:
            trained = one.weights_in(trained)
        for one in reversed(self._averages):
            averaged = one.averages_in(averaged)
        checkpoint |= {"state_dict": averaged, TRAINED: trained}


def go_on(trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
    """In a fit that resumes, take the weights to train on; Lightning has loaded averaged ones."""
    if trainer.state.fn == TrainerFn.FITTING and TRAINED in checkpoint:
        module.load_state_dict(checkpoint[TRAINED], strict=module.strict_loading)
