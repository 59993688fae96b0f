"""A long fit: whether time per step and memory stay what they were."""

import time
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from rl_lr.bench.ratios import Ratio
from rl_lr.callbacks import RLLearningRate
from rl_lr.demo.fits import quiet_trainer

_STEPS = 100_000


class _Linear(pl.LightningModule):
    """Eight weights under SGD: nearly all time is Lightning's and ours."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(8, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x = self.network(batch[0])
        return nn.functional.mse_loss(x, torch.zeros_like(x))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 1e-3)


class _Fifths(pl.Callback):
    """Seconds at, and bytes resident after, every fifth of the fit."""

    def __init__(self) -> None:
        self.times, self.resident = [time.perf_counter()], []  # type: ignore[var-annotated]

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step % (_STEPS // 5) == 0:
            self.times.append(time.perf_counter())
            self.resident.append(psutil.Process().memory_info().rss)


def long_fit() -> list[Ratio]:
    """The last fifth of a fit of 100 000 steps against its second one, which is past all warming up."""
    fifths = _Fifths()
    rows = DataLoader(TensorDataset(torch.randn(1000, 8)), 10)
    trainer = quiet_trainer(
        max_steps=_STEPS, max_epochs=-1, callbacks=[RLLearningRate(), fifths], logger=False
    )
    trainer.fit(_Linear(), rows)
    taken = [late - early for early, late in zip(fifths.times, fifths.times[1:], strict=False)]
    return [
        Ratio.single(f"time of the last / second fifth of {_STEPS} steps", taken[4] / taken[1], "≤ 1.1"),
        Ratio.single(
            "resident memory after the last / first fifth", fifths.resident[4] / fifths.resident[0], "≤ 1.02"
        ),
    ]
