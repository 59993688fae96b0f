"""The training loss of the initial weights, as the fit itself would measure it."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from rl_lr.callbacks.choosing import Chosen, index_of
from rl_lr.callbacks.horizon import steps_left
from rl_lr.callbacks.losses import Losses


class AtRest(pl.Callback):
    """Holds every rate at zero for a share of the fit's steps, then ends it: its losses are those of the start.

    One step alone would be a mini-batch's luck, and what is measured in warm-up depends on the rates.

    Args:
        share: of the optimizer steps that the fit would make.
        optimizer: number or name of the one whose loss is gathered; None for the first.
    """

    def __init__(self, share: float, optimizer: Chosen | None) -> None:
        self._share, self._optimizer = share, optimizer
        self._seen: list[Tensor] = []

    @property
    def loss(self) -> Tensor:
        """Their mean, float64."""
        return torch.stack(self._seen).mean()

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._wanted = max(1, round(self._share * (steps_left(trainer) or 1)))
        self._index = index_of(self._optimizer or 0, trainer.optimizers)
        self._losses = Losses(trainer, [self._index], None, {})

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        for group in optimizer.param_groups:
            group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], Tensor) else 0.0

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._losses.add(outputs)
        loss = self._losses.take(self._index)
        if loss is not None:
            self._seen.append(loss.double())
        trainer.should_stop = len(self._seen) >= self._wanted
