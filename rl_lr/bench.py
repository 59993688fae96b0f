"""``rl-lr bench``: speed and memory, as ratios of neighbours measured in turn within one run."""

import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from rl_lr.callbacks import RLLearningRate
from rl_lr.demo.fits import quiet_trainer
from rl_lr.optimizers import OptimizerSpec
from rl_lr.policy import Policy
from rl_lr.rollout import Draw, rollouts
from rl_lr.scheduler import RLScheduler
from rl_lr.tasks.tensors import TensorTask, cross_entropy

RUNS = 256
"""Stacked runs of the engine benchmark."""

_FIT_STEPS = 1000


@dataclass(frozen=True)
class Ratio:
    """A measured ratio: median over the repetitions, and what 80 % of them lie between."""

    name: str
    median: float
    low: float
    high: float
    wanted: str
    """The bound it is held against."""


def run_bench(out: Path, repetitions: int) -> list[Ratio]:
    """Measure everything, print the table, write JSON to ``out``."""
    if repetitions < 2:
        raise ValueError(f"repetitions is {repetitions}: a spread needs at least 2.")
    console = Console()
    results = [
        _engine_against_loop(2000, max(2, repetitions // 2)),
        _engine_against_loop(500, repetitions),
        _callback_against_monitor(repetitions),
        *_scheduler_memory(),
    ]
    table = Table(title="Ratios within this run (80 % of the repetitions lie between low and high)")
    for heading in ("figure", "median", "low", "high", "wanted"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for ratio in results:
        table.add_row(ratio.name, *(f"{x:.3g}" for x in (ratio.median, ratio.low, ratio.high)), ratio.wanted)
    console.print(table)
    machine = {
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    out.write_text(json.dumps({"machine": machine, "ratios": [vars(ratio) for ratio in results]}, indent=2))
    return results


def paired(
    name: str, wanted: str, ours: Callable[[], float], theirs: Callable[[], float], repetitions: int
) -> Ratio:
    """The ratio ours / theirs of two measurements taken in turn, ``repetitions`` times after a warm-up."""
    ours(), theirs()
    ratios = [ours() / theirs() for _ in track(range(repetitions), description=name)]
    spread = quantiles(ratios, n=10)
    return Ratio(name, median(ratios), spread[0], spread[-1], wanted)


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def mlp_task() -> TensorTask:
    """The engine benchmark's task: MLP 64-32-10, batch 32, AdamW."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(1024, 64, generator=generator), torch.randint(10, (1024,), generator=generator)

    def factory() -> nn.Module:
        return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    return TensorTask("bench", OptimizerSpec("adamw", lr=1e-3), 32, factory, (x, y), cross_entropy)


def _engine_against_loop(steps: int, repetitions: int) -> Ratio:
    """Optimizee steps per second: the engine in whole controlled runs, over a plain loop of AdamW."""
    task, keep = mlp_task(), Policy.keep()

    def stacked() -> float:
        parts = rollouts(Draw(task, tuple(range(RUNS)), (task.optimizer.lr,) * RUNS, steps))
        begin = time.perf_counter()  # tracing counts, drawing the runs does not
        while not parts[0].done:
            for part in parts:
                part.advance(keep.act(part.signals()))
        return RUNS * steps / (time.perf_counter() - begin)

    network, (x, y) = task.model(), task.data()
    optimizer = torch.optim.AdamW(network.parameters(), task.optimizer.lr)
    generator = torch.Generator().manual_seed(0)

    def plain() -> float:
        begin = time.perf_counter()
        for _ in range(steps):
            rows = torch.randint(len(x), (task.batch_size,), generator=generator)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
        return steps / (time.perf_counter() - begin)

    name = f"engine / plain loop, {RUNS} MLPs 64-32-10, signals on, runs of {steps} steps"
    return paired(name, "≥ 15", stacked, plain, repetitions)


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


def _fit_seconds(cosine: bool, callback: pl.Callback, log_dir: Path) -> float:
    generator = torch.Generator().manual_seed(0)
    rows = 64 * _FIT_STEPS
    data = TensorDataset(
        torch.randn(rows, 784, generator=generator), torch.randint(10, (rows,), generator=generator)
    )
    trainer = quiet_trainer(
        max_steps=_FIT_STEPS, logger=TensorBoardLogger(log_dir), callbacks=[callback], log_every_n_steps=10
    )
    return seconds(lambda: trainer.fit(_Fit(cosine), DataLoader(data, 64)))


def _callback_against_monitor(repetitions: int) -> Ratio:
    """Wall time of a Lightning fit: with the callback, over LearningRateMonitor with cosine."""
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        return paired(
            "fit with RLLearningRate / with LearningRateMonitor and cosine, 1 M parameters",
            "≤ 1.05",
            lambda: _fit_seconds(False, RLLearningRate(), logs / "ours"),
            lambda: _fit_seconds(True, LearningRateMonitor(), logs / "theirs"),
            repetitions,
        )


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


def _scheduler_memory() -> list[Ratio]:
    """Memory of a scheduler: in KiB at a million parameters, and what ten times as many do to it."""
    small, large = state_bytes(_wide_mlp(676)), state_bytes(_wide_mlp(2700))
    kib, growth = small / 1024, large / small
    return [
        Ratio("scheduler state, KiB, 1 M parameters", kib, kib, kib, "≤ 100"),
        Ratio("scheduler state, 9 M / 1 M parameters", growth, growth, growth, "≤ 1.1"),
    ]
