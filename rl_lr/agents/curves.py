"""Curves of a training: stable-baselines3's logger, written to TensorBoard."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from stable_baselines3.common.logger import Figure, Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter

from rl_lr.agents.actions import draw_actions
from rl_lr.charts import Layout, bands, lines, write_layout, writer_after
from rl_lr.config import TrainConfig
from rl_lr.episodes import Episode
from rl_lr.reward import score

Figures = dict[str, float]
"""What an iteration measured, by name."""


class Curves:
    """A logger for an SB3 model, and for what we measure beside it.

    TensorBoard opens on *custom scalars*: what comes of the training, and how it learns. *Images* holds
    what the policy does, decision by decision, *Text* the settings.

    Attributes:
        logger: give it to the model.

    Args:
        config: written down before the first iteration.
        out: folder of the training.
        done: iterations done before; what a crashed run wrote after them is hidden.
    """

    def __init__(self, config: TrainConfig, out: Path, done: int) -> None:
        self._config, folder = config, out / "tensorboard"
        output = _Output(writer_after(folder, done))
        self.logger = Logger(str(folder), [output])
        if not done:
            settings = json.dumps(asdict(config), indent=2)
            write_layout(output.writer, _layout(config))
            output.writer.add_text("settings", f"```json\n{settings}\n```", 0)

    def log(self, group: str, figures: Figures) -> None:
        """Note figures; :meth:`write` writes them."""
        for name, value in figures.items():
            self.logger.record(f"{group}/{name}", value)

    def show_actions(self, episodes: Sequence[Episode]) -> None:
        """Note a picture of the actions of an iteration."""
        figure = draw_actions(episodes, self._config.control)
        self.logger.record("rollout/actions", Figure(figure, close=False))

    def write(self, iterations: int) -> None:
        """Write what was noted as the figures of iteration number ``iterations``, from 1."""
        self.logger.dump(iterations)


class _Output(TensorBoardOutputFormat):
    """SB3's TensorBoard output, by a writer of ours."""

    def __init__(self, writer: SummaryWriter) -> None:
        self.writer = writer
        self._is_closed = False


def _layout(config: TrainConfig) -> Layout:
    """The page of custom scalars; what the agent has no figures for is left out."""
    results = [lines("return of the runs: nats of score gained", "rollout/return")]
    if config.validate_every:
        factors = (f"validation/regret_to_best_rate_{factor}" for factor in ("x0.01", "x1", "x100"))
        results.append(
            bands("regret, nats, by base rate: ■ ×0.01 ◆ ×1 ▲ ×100", *((tag, tag, tag) for tag in factors))
        )
    if config.agent == "dqn":
        learning = [
            lines("exploration: share of random actions", "rollout/epsilon"),
            lines("Q-learning: loss", "train/loss"),
        ]
    else:
        learning = [
            lines("exploration: standard deviation of actions", "train/std"),
            lines("critic: share of variance explained", "train/explained_variance"),
            lines("policy: KL divergence of an update", "train/approx_kl"),
        ]
    speed = lines("engine: optimizer steps per second", "rollout/engine_steps_per_second")
    return {"training: what comes of it": results, "training: how it learns": [*learning, speed]}


def outcome(episodes: Sequence[Episode]) -> Figures:
    """Mean return (nats of score gained), and the share of runs that ended above their start."""
    initial = torch.from_numpy(np.concatenate([episode.initial_loss for episode in episodes]))
    final = torch.from_numpy(np.concatenate([episode.final_loss for episode in episodes]))
    gained = score(initial, initial) - score(final, initial)
    return {"return": float(gained.mean()), "worse_than_start": float((gained < 0).double().mean())}
