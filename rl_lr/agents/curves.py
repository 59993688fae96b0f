"""Curves of a training: stable-baselines3's logger, written to TensorBoard."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter

from rl_lr.config import TrainConfig
from rl_lr.episodes import Episode
from rl_lr.reward import score

Figures = dict[str, float]
"""What an iteration measured, by name."""


class Curves:
    """A logger for an SB3 model, and for what we measure beside it.

    Attributes:
        logger: give it to the model.

    Args:
        config: written down before the first iteration.
        out: folder of the training.
        done: iterations done before; what a crashed run wrote after them is hidden.
    """

    def __init__(self, config: TrainConfig, out: Path, done: int) -> None:
        folder = str(out / "tensorboard")
        output = _Output(folder, purge_step=done + 1 if done else None)
        self.logger = Logger(folder, [output])
        if not done:
            settings = json.dumps(asdict(config), indent=2)
            output.writer.add_text("settings", f"```json\n{settings}\n```", 0)

    def log(self, group: str, figures: Figures) -> None:
        """Note figures; :meth:`write` writes them."""
        for name, value in figures.items():
            self.logger.record(f"{group}/{name}", value)

    def write(self, iterations: int) -> None:
        """Write what was noted as the figures of iteration number ``iterations``, from 1."""
        self.logger.dump(iterations)


class _Output(TensorBoardOutputFormat):
    """SB3's TensorBoard output; what was written from ``purge_step`` on is hidden."""

    def __init__(self, folder: str, purge_step: int | None) -> None:
        self.writer = SummaryWriter(folder, purge_step=purge_step)
        self._is_closed = False


def outcome(episodes: Sequence[Episode]) -> Figures:
    """Mean return (nats of score gained), and the share of runs that ended above their start."""
    initial = torch.from_numpy(np.concatenate([episode.initial_loss for episode in episodes]))
    final = torch.from_numpy(np.concatenate([episode.final_loss for episode in episodes]))
    gained = score(initial, initial) - score(final, initial)
    return {"return": float(gained.mean()), "worse_than_start": float((gained < 0).double().mean())}
