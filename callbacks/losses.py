"""The loss that belongs to each optimizer step of a fit."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning import Trainer
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from torch import Tensor

from rl_lr.callbacks.choosing import Chosen, index_of, names

_PACE = 0.9  # steps per batch below which a horizon that counted every batch is far off

_SPARED = 10  # steps that may be missing beside that: a gradient scaler leaves out a few at first


class Losses:
    """Gathers the losses of batches until an optimizer steps, for each optimizer by itself.

    Args:
        trainer: of the fit.
        indices: numbers of the controlled optimizers.
        monitor: as :class:`rl_lr.callbacks.RLLearningRate` has it.
        waited: what :meth:`state_dict` told of an earlier fit.
    """

    def __init__(
        self,
        trainer: Trainer,
        indices: Sequence[int],
        monitor: "str | Mapping[Chosen, str] | None",
        waited: Mapping[int, Sequence[Tensor]],
    ) -> None:
        self._trainer = trainer
        self._automatic = trainer.lightning_module.automatic_optimization
        if monitor is not None and self._automatic:
            raise MisconfigurationException(
                "RLLearningRate(monitor=...) is for manual optimization; in automatic optimization the loss is what "
                "training_step returns: leave monitor out."
            )
        named = monitor if isinstance(monitor, Mapping) else {}
        by_index = {index_of(choice, trainer.optimizers): metric for choice, metric in named.items()}
        usual = monitor if isinstance(monitor, str) else None
        self._metrics = {index: by_index.get(index, usual) for index in indices}
        device = trainer.lightning_module.device
        self._waiting = {index: [one.to(device) for one in waited.get(index, ())] for index in indices}
        self._known: set[int] = set()  # optimizers whose loss was given at least once
        self._batches, self._began = 0, trainer.global_step
        self._counted = dict.fromkeys(indices, 0)  # steps that had a loss
        self._warned = False

    def add(self, outputs: Any) -> None:
        """A batch came to its end; ``outputs`` is what Lightning has of ``training_step``."""
        self._batches += 1
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            if not self._automatic:  # there Lightning has detached it
                loss = loss.detach()
            if loss.ndim:  # it is of every sample
                loss = loss.mean()
            for index, waiting in self._waiting.items():
                if self._metrics[index] is None:
                    waiting.append(loss)

    def take(self, index: int) -> Tensor | None:
        """Mean loss of the batches since the optimizer stepped last, or its metric now; None if there is none.

        A metric may be logged in the batches of its optimizer only, and is then what it was in all others, so there
        is no mean of it. Lightning divides the loss of accumulated batches by their number; that is undone.
        """
        waiting, metric = self._waiting[index], self._metrics[index]
        loss = waiting[0] if len(waiting) == 1 else torch.stack(waiting).mean() if waiting else None
        waiting.clear()
        if metric is not None:
            loss = self._trainer.callback_metrics.get(metric)
        if loss is None:
            self._check_given(index)
            return None
        self._known.add(index)
        self._counted[index] += 1
        if self._automatic and self._trainer.accumulate_grad_batches > 1:
            loss = loss * self._trainer.accumulate_grad_batches
        return loss

    def state_dict(self) -> dict[int, list[Tensor]]:
        """Losses that wait for a step of their optimizer, by its number."""
        return {index: [loss.cpu() for loss in waiting] for index, waiting in self._waiting.items()}

    def check_pace(self) -> None:
        """Warn once of an optimizer that makes fewer steps that count than its horizon was reckoned with."""
        reckoned, unit = self._reckoned()
        for index, made in self._counted.items():
            if made < _PACE * reckoned - _SPARED * self._automatic and not self._warned:
                self._warned = True
                name = names(self._trainer.optimizers)[index]
                rank_zero_warn(
                    f"{name} made a step in {made} of {reckoned} {unit}, but RLLearningRate reckoned with one in "
                    f"each, so its rate would not be annealed in time: pass total_steps, the steps it will make."
                )

    def _reckoned(self) -> tuple[int, str]:
        """Steps that the horizon was reckoned with until now, and what they were counted in."""
        trainer = self._trainer
        made = trainer.global_step - self._began
        if self._automatic:
            return made, "steps of the Trainer (the others had no loss, or no finite gradient)"
        epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs
        if (
            trainer.max_steps != -1
            and trainer.global_step / trainer.max_steps > (trainer.current_epoch + 1) / epochs
        ):
            return made // len(trainer.optimizers), "steps that max_steps counts"
        return self._batches, "batches"

    def _check_given(self, index: int) -> None:
        """A loss may be missing now and then, in automatic optimization always; else never from the start."""
        if self._automatic or index in self._known:
            return
        metric = self._metrics[index]
        name = names(self._trainer.optimizers)[index]
        cause = (
            "training_step returns none" if metric is None else f"no metric {metric!r} is logged in the step"
        )
        raise MisconfigurationException(
            f"RLLearningRate needs the training loss of {name}, and {cause}: return it from training_step, as a "
            f"tensor or under 'loss', or log it there and name it by RLLearningRate(monitor=...)."
        )
