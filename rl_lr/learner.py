"""The learner: stable-baselines3's PPO, fed with episodes that others played."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from stable_baselines3.common.utils import set_random_seed
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from rl_lr.config import TrainConfig
from rl_lr.envs.batched import BatchedLearningRateEnv
from rl_lr.envs.sb3 import SB3VecEnv
from rl_lr.episodes import Episode, Order
from rl_lr.policy import Policy
from rl_lr.reward import score

Figures = dict[str, float]
"""What an iteration measured, by name."""


class Learner:
    """A PPO model and its curves.

    Attributes:
        model: the PPO model; its environment only says what shapes observations and actions have.

    Args:
        config: sizes, seed and PPO's settings.
        out: folder of the training; curves go to ``tensorboard/`` in it.
        done: iterations done before, when a training is taken up again.
    """

    def __init__(self, config: TrainConfig, out: Path, done: int = 0) -> None:
        self.config = config
        spaces = BatchedLearningRateEnv(config.runs, None, config.group_size, config.draw, config.control)
        self.model = PPO(
            "MlpPolicy",
            SB3VecEnv(spaces),
            learning_rate=config.learning_rate,
            n_steps=config.control.decision_count,
            batch_size=config.minibatch,
            n_epochs=config.epochs,
            gamma=1.0,
            gae_lambda=config.gae_lambda,
            ent_coef=config.entropy,
            target_kl=0.05,
            policy_kwargs={
                "net_arch": list(config.hidden),
                "activation_fn": nn.Tanh,
                "log_std_init": config.log_std,
            },
            seed=config.seed,
            device="cpu",
        )
        folder = str(out / "tensorboard")
        curves = _Curves(folder, purge_step=done + 1 if done else None)
        self.model.set_logger(Logger(folder, [curves]))
        if not done:
            settings = json.dumps(asdict(config), indent=2)
            curves.writer.add_text("settings", f"```json\n{settings}\n```", 0)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :func:`rl_lr.resume.load` gave."""
        self.model.policy.load_state_dict(state["network"])
        self.model.policy.optimizer.load_state_dict(state["optimizer"])

    def orders(self, iteration: int) -> list[Order]:
        """The episodes that iteration number ``iteration`` wants to learn from."""
        policy, std = self.policy({}, "learning"), float(self.model.policy.log_std.exp().item())
        return [Order(policy, std, iteration, group) for group in range(self.config.groups)]

    def update(self, episodes: Sequence[Episode], iteration: int) -> Figures:
        """Learn from the episodes of an iteration, in their order."""
        seed = np.random.SeedSequence([self.config.seed, iteration]).generate_state(1)[0]
        set_random_seed(int(seed))
        remaining = 1.0 - iteration / self.config.iterations
        self.model.lr_schedule = lambda _: self.config.learning_rate * (0.1 + 0.9 * remaining)
        self._fill_buffer(episodes)
        self.model.train()
        return _figures(episodes)

    def _fill_buffer(self, episodes: Sequence[Episode]) -> None:
        """What PPO's own collection would leave behind: values and probabilities are the learner's."""
        observations, actions, rewards = (
            np.concatenate([getattr(episode, name) for episode in episodes], axis=1)
            for name in ("observations", "actions", "rewards")
        )
        rows = torch.from_numpy(observations).flatten(0, 1)
        with torch.no_grad():
            values, log_probs, _ = self.model.policy.evaluate_actions(
                rows, torch.from_numpy(actions).reshape(-1, 1)
            )
        buffer, runs = self.model.rollout_buffer, self.config.runs
        buffer.reset()
        begins = np.ones(runs)
        for decision, (value, log_prob) in enumerate(
            zip(values.flatten().split(runs), log_probs.split(runs), strict=True)
        ):
            buffer.add(
                observations[decision], actions[decision][:, None], rewards[decision], begins, value, log_prob
            )
            begins = np.zeros(runs)
        buffer.compute_returns_and_advantage(last_values=torch.zeros(runs), dones=np.ones(runs))

    def policy(self, provenance: dict[str, Any], name: str) -> Policy:
        """The actor's mean as it is now."""
        actor = [*self.model.policy.mlp_extractor.policy_net, self.model.policy.action_net]
        layers = tuple(
            (_copy(layer.weight), _copy(layer.bias)) for layer in actor if isinstance(layer, nn.Linear)
        )
        return Policy(layers, self.config.control, provenance, name)

    def log(self, group: str, figures: Figures) -> None:
        """Note figures for TensorBoard; :meth:`write` writes them."""
        for name, value in figures.items():
            self.model.logger.record(f"{group}/{name}", value)

    def write(self, iterations: int) -> None:
        """Write what was noted as the figures of iteration number ``iterations``, from 1."""
        self.model.logger.dump(iterations)


class _Curves(TensorBoardOutputFormat):
    """SB3's TensorBoard output; what a crashed run wrote from ``purge_step`` on is hidden."""

    def __init__(self, folder: str, purge_step: int | None) -> None:
        self.writer = SummaryWriter(folder, purge_step=purge_step)
        self._is_closed = False


def _figures(episodes: Sequence[Episode]) -> Figures:
    """Mean return (nats of score gained), and the share of runs that ended above their start."""
    initial = torch.from_numpy(np.concatenate([episode.initial_loss for episode in episodes]))
    final = torch.from_numpy(np.concatenate([episode.final_loss for episode in episodes]))
    gained = score(initial, initial) - score(final, initial)
    return {"return": float(gained.mean()), "worse_than_start": float((gained < 0).double().mean())}


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()
