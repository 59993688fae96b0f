"""What the callback costs: time of a Lightning fit, memory of a scheduler."""

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import TensorBoardLogger
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from rl_lr.bench.ratios import Ratio, paired, processor_seconds
from rl_lr.callbacks import RLLearningRate
from rl_lr.demo.fits import quiet_trainer
from rl_lr.policy import Policy
from rl_lr.scheduler import RLScheduler

_FIT_STEPS = 1000

_BATCH = 96  # rows, of which a step takes about 10 ms on a common core


def _wide_mlp(width: int) -> nn.Module:
    """784-width-width-10; about a million parameters at width 676."""
    return nn.Sequential(
        nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


class _Fit(pl.LightningModule):
    """A million-parameter MLP under AdamW, with or without torch's cosine schedule."""

    def __init__(self, cosine: bool) -> None:
        super().__init__()
        self.network, self.cosine = _wide_mlp(676), cosine

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.network(x), y)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), 1e-3)
        if not self.cosine:
            return optimizer
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _FIT_STEPS)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Clocked(RLLearningRate):
    """The callback, with the processor time spent in its code: in its own hooks, and in those of the optimizer.

    Attributes:
        ratio: of the fit's processor time after the first ``skipped`` steps, over the same less what was
            spent in our code.
    """

    ratio = math.nan

    def __init__(self, total_steps: int, skipped: int) -> None:
        super().__init__(total_steps=total_steps)
        self._skipped, self.seconds, self._since = skipped, 0.0, 0.0

    def _start(self, *_: object) -> None:
        self._begin = time.process_time()

    def _stop(self, *_: object) -> None:
        self.seconds += time.process_time() - self._begin

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        optimizer, self._since = trainer.optimizers[0], time.process_time()
        optimizer.register_step_pre_hook(self._start)  # hooks run in the order of their registration
        optimizer.register_step_post_hook(self._start)
        self._start()
        super().on_train_start(trainer, pl_module)
        self._stop()
        optimizer.register_step_pre_hook(self._stop)
        optimizer.register_step_post_hook(self._stop)

    @override
    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self._start()
        super().on_train_batch_start(trainer, *args)
        self._stop()

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._start()
        super().on_train_batch_end(trainer, *args)
        self._stop()
        if trainer.global_step == self._skipped:
            self.seconds, self._since = 0.0, time.process_time()

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        whole = time.process_time() - self._since
        self.ratio = whole / (whole - self.seconds)


def _fit_seconds(cosine: bool, callbacks: list[Any], log_dir: Path, steps: int = _FIT_STEPS) -> float:
    generator = torch.Generator().manual_seed(0)
    rows = _BATCH * steps
    data = TensorDataset(
        torch.randn(rows, 784, generator=generator), torch.randint(10, (rows,), generator=generator)
    )
    trainer = quiet_trainer(max_steps=steps, logger=TensorBoardLogger(log_dir), callbacks=callbacks)
    return processor_seconds(lambda: trainer.fit(_Fit(cosine), DataLoader(data, _BATCH)))


def callback_against_monitor(repetitions: int) -> Ratio:
    """Processor time of a Lightning fit: with the callback, over LearningRateMonitor with cosine."""
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        return paired(
            "fit with RLLearningRate / with LearningRateMonitor and cosine, 1 M parameters",
            "≤ 1.05",
            lambda: _fit_seconds(False, [RLLearningRate()], logs / "ours"),
            lambda: _fit_seconds(True, [LearningRateMonitor()], logs / "theirs"),
            repetitions,
        )


def callback_within(repetitions: int) -> list[Ratio]:
    """Processor time of a fit with the callback, over the same fit less what was spent in the callback's code.

    Both come from the same steps, so a busy machine weighs on both alike. Left out are Lightning's calls of the
    hooks, the logger's own thread, and what the callback's memory traffic costs the steps in between.

    A run is decided 56 times whatever its length, so what the callback costs is spread over its steps:
    measured on a whole run of 1000 steps, on the first 1000 of 20 000, which hold 13 of the decisions, and on
    the 1000 after those, which are like the other 19 000.
    """

    def once(steps: int, skipped: int) -> float:
        clocked = _Clocked(steps, skipped)
        with tempfile.TemporaryDirectory() as folder:
            _fit_seconds(False, [clocked], Path(folder), skipped + _FIT_STEPS)
        return clocked.ratio

    figures = []
    long = 20 * _FIT_STEPS
    for steps, skipped, wanted in ((_FIT_STEPS, 0, ""), (long, 0, ""), (long, _FIT_STEPS, "≤ 1.01")):
        once(steps, skipped)  # warms up
        name = (
            f"fit with RLLearningRate / less the time in its code, 1 M parameters, steps {skipped} to "
            f"{skipped + _FIT_STEPS} of {steps}"
        )
        ratios = [once(steps, skipped) for _ in track(range(repetitions), description=name)]
        figures.append(Ratio.over(name, ratios, wanted))
    return figures


def callback_against_none(repetitions: int) -> list[Ratio]:
    """Processor time of a Lightning fit with the callback, over another without any, of the same lengths.

    Nothing is left out, but two fits meet different neighbours on a busy machine, and memory in different places.
    """
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        return [
            paired(
                f"fit with RLLearningRate / without, 1 M parameters, {steps} steps",
                wanted,
                lambda: _fit_seconds(False, [RLLearningRate(total_steps=steps)], logs / "ours"),  # noqa: B023
                lambda: _fit_seconds(False, [], logs / "plain"),
                repetitions,
            )
            for steps, wanted in ((_FIT_STEPS, ""), (20 * _FIT_STEPS, "≤ 1.01"))
        ]


def state_bytes(network: nn.Module) -> int:
    """Bytes of tensors that a scheduler holds in the middle of a run of the network."""
    optimizer = torch.optim.SGD(network.parameters(), 1e-3)
    scheduler = RLScheduler(optimizer, total_steps=1000, policy=Policy.keep())
    for _ in range(100):
        loss = network(torch.randn(4, 784)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
    return _tensor_bytes(scheduler.state_dict())


def _tensor_bytes(state: Any) -> int:
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()
    return sum(_tensor_bytes(part) for part in parts)


def scheduler_memory() -> list[Ratio]:
    """Memory of a scheduler: in KiB at a million parameters, and what ten times as many do to it."""
    small, large = state_bytes(_wide_mlp(676)), state_bytes(_wide_mlp(2700))
    return [
        Ratio.single("scheduler state, KiB, 1 M parameters", small / 1024, "≤ 100"),
        Ratio.single("scheduler state, 9 M / 1 M parameters", large / small, "≤ 1.1"),
    ]
