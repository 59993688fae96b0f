"""Lightning's learning-rate finder on a task."""

import logging
import tempfile
import warnings
from contextlib import ExitStack, redirect_stderr
from io import StringIO

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.tuner.tuning import Tuner
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from rl_lr.engine import build_objective
from rl_lr.tasks.task import Task


class TaskModule(LightningModule):
    """A task as Lightning fits it."""

    def __init__(self, task: Task, seed: int) -> None:
        super().__init__()
        self.objective, self.task = build_objective(task, seed), task
        self.lr = task.optimizer.lr

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """The task's loss on a batch."""
        loss: Tensor = self.objective(*batch)
        return loss

    def configure_optimizers(self) -> Optimizer:
        """The task's optimizer."""
        return self.task.optimizer.build(self.parameters(), self.lr)


def found_rate(task: Task, seed: int) -> float:
    """What ``Tuner.lr_find`` suggests at its defaults; the task's own rate if it suggests none."""
    rows = DataLoader(TensorDataset(*task.data()), task.batch_size, shuffle=True, drop_last=True)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with ExitStack() as scope:
        folder = scope.enter_context(tempfile.TemporaryDirectory())
        scope.enter_context(torch.random.fork_rng(devices=[]))
        scope.enter_context(redirect_stderr(StringIO()))  # its progress bar cannot be switched off
        scope.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # about workers and loggers, which a range test does not need
        torch.manual_seed(seed)
        trainer = Trainer(
            max_steps=1000,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        result = Tuner(trainer).lr_find(TaskModule(task, seed), rows)
    suggested = None if result is None else result.suggestion()
    return task.optimizer.lr if suggested is None else float(suggested)
