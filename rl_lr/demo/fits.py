"""The demo's networks and data, and one Lightning fit under one way of setting the rate."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from rl_lr.callbacks import ConvergenceBoard, RLLearningRate
from rl_lr.policy import Policy
from rl_lr.tasks.networks import Transformer
from rl_lr.tasks.real import digits, source_text
from rl_lr.tasks.tensors import Criterion, cross_entropy, next_token


@dataclass(frozen=True)
class Workload:
    """A network on real data."""

    name: str
    """What the table calls it."""
    network: Callable[[], nn.Module]
    """Builds it."""
    train: tuple[Tensor, ...]
    """Training rows."""
    held_out: tuple[Tensor, ...]
    """Rows never trained on."""
    criterion: Criterion
    """Loss of outputs against the last tensor."""
    lr: float
    """AdamW's rate at ×1."""
    batch_size: int
    """Rows of a mini-batch."""
    steps: int
    """Optimizer steps of a fit."""


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def workloads(steps: int) -> list[Workload]:
    """A CNN on handwritten digits and a character transformer on the standard library's source."""
    x, y, held_x, held_y = digits()
    text, held_text, vocabulary = source_text(48)
    return [
        Workload(
            "CNN on digits", _cnn, (x[:, None], y), (held_x[:, None], held_y), cross_entropy, 1e-3, 32, steps
        ),
        Workload(
            "character transformer",
            lambda: Transformer(vocabulary, 48, 48, depth=2, heads=4),
            (text,),
            (held_text[:512],),
            next_token,
            1e-3,
            16,
            steps,
        ),
    ]


@dataclass(frozen=True)
class Arm:
    """A way of setting the rate: a policy, or a torch schedule."""

    name: str
    """What table and figure call it."""
    policy: Policy | None = None
    """Controls the fit through the callback."""
    cosine: bool = False
    """Without a policy: cosine from the base rate to zero, else a constant rate."""


@dataclass(frozen=True)
class Fitted:
    """The result of one fit."""

    workload: str
    arm: str
    factor: float
    initial: float
    """Held-out loss before the first step."""
    final: float
    """Held-out loss after the last."""
    losses: list[float]
    """Training loss of each step."""
    rates: list[float]
    """Learning rate of each step."""


class _Module(pl.LightningModule):
    def __init__(self, workload: Workload, lr: float, cosine: bool) -> None:
        super().__init__()
        self.network, self.workload = workload.network(), workload
        self.lr, self.cosine = lr, cosine
        self.losses: list[float] = []
        self.rates: list[float] = []

    def objective(self, batch: tuple[Tensor, ...]) -> Tensor:
        return self.workload.criterion(self.network(batch[0]), batch[-1])

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        loss = self.objective(batch)
        self.log("loss/train", loss)
        self.losses.append(float(loss.detach()))
        self.rates.append(float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        return loss

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        self.log("loss/held_out", self.objective(batch))

    def configure_optimizers(self):  # type: ignore[no-untyped-def]
        optimizer = torch.optim.AdamW(self.parameters(), self.lr)
        if not self.cosine:
            return optimizer
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.workload.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(workload: Workload, arm: Arm, factor: float, log_dir: Path, seed: int = 0) -> Fitted:
    """Train the workload from ``factor`` times its usual rate; the seed fixes weights and batches."""
    torch.manual_seed(seed)
    module = _Module(workload, workload.lr * factor, arm.cosine)
    rows = TensorDataset(*workload.train)
    sampler = RandomSampler(
        rows,
        replacement=True,
        num_samples=workload.steps * workload.batch_size,
        generator=torch.Generator().manual_seed(seed),
    )
    train = DataLoader(rows, workload.batch_size, sampler=sampler)
    held_out = DataLoader(TensorDataset(*workload.held_out), len(workload.held_out[0]))
    name = f"{workload.name} ×{factor:g}".replace(" ", "-")
    controls = (
        [RLLearningRate(arm.policy), ConvergenceBoard(figure_every=0)]
        if arm.policy
        else [LearningRateMonitor()]
    )
    trainer = quiet_trainer(
        max_steps=workload.steps,
        max_epochs=1,
        logger=TensorBoardLogger(log_dir, name=name, version=arm.name.replace(" ", "-")),
        callbacks=controls,
        log_every_n_steps=5,
    )
    initial = _held_out_loss(module)
    trainer.fit(module, train, held_out)
    return Fitted(
        workload.name, arm.name, factor, initial, _held_out_loss(module), module.losses, module.rates
    )


def _held_out_loss(module: _Module) -> float:
    module.eval()
    with torch.no_grad():
        return float(module.objective(module.workload.held_out))


def quiet_trainer(**settings: object) -> pl.Trainer:
    """A Trainer on the CPU that prints nothing and keeps no checkpoints."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    return pl.Trainer(
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        **settings,  # type: ignore[arg-type]
    )
