"""Averaged weights in a fit: in the module while it is validated, and in its checkpoints."""

from collections.abc import Iterable
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from rl_lr.scheduler import RLScheduler

TRAINED = "current_model_state"
"""Where a checkpoint holds the weights that are trained, as those of Lightning's ``WeightAveraging`` do."""


class Averages:
    """Those that the schedulers of a fit keep, if they do.

    Several may hold averages of the same buffers: what is put in last is taken out first.
    """

    def __init__(self, schedulers: Iterable[RLScheduler] = ()) -> None:
        self._averages = [one.average for one in schedulers if one.average is not None]
        self._warned = False

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

    def into(self, checkpoint: dict[str, Any], module: LightningModule) -> None:
        """Let its ``state_dict`` hold averaged weights, and :data:`TRAINED` those to train on."""
        if not self._averages:
            return
        self._look_for_copies(checkpoint["state_dict"], module)
        trained = averaged = checkpoint["state_dict"]
        for one in self._averages:
            trained = one.weights_in(trained)
        for one in reversed(self._averages):
            averaged = one.averages_in(averaged)
        checkpoint |= {"state_dict": averaged, TRAINED: trained}

    def _look_for_copies(self, state: dict[str, Any], module: LightningModule) -> None:
        """Warn once of what a hook of the module has made of its weights, as only those themselves have averages."""
        own = {tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers())}
        made = [
            name
            for name, one in state.items()
            if isinstance(one, Tensor)
            and one.is_floating_point()
            and one.numel()
            and one.data_ptr() not in own
        ]
        if made and not self._warned:
            self._warned = True
            rank_zero_warn(
                f"A state_dict hook of {type(module).__name__} has copied or split weights ({', '.join(made)}): in checkpoints "
                f"these are as they are trained, not averaged."
            )


def go_on(trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
    """In a fit that resumes, take the weights to train on; Lightning has loaded averaged ones."""
    if trainer.state.fn == TrainerFn.FITTING and TRAINED in checkpoint:
        module.load_state_dict(checkpoint[TRAINED], strict=module.strict_loading)
