"""Deep Q-learning: stable-baselines3's, fed with episodes that others played."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.utils import polyak_update
from torch import nn

from rl_lr.agents.curves import Curves, Figures, outcome
from rl_lr.agents.export import linear_layers
from rl_lr.agents.iteration import falling_rate, member_seed, seed_iteration
from rl_lr.config import TrainConfig
from rl_lr.envs.batched import BatchedLearningRateEnv
from rl_lr.envs.sb3 import SB3VecEnv
from rl_lr.episodes import Episode, Order, joined
from rl_lr.exploration import EpsilonGreedy
from rl_lr.policy import Policy

_MEMORY = ("observations", "next_observations", "actions", "rewards", "dones")


class DQNAgent:
    """A DQN model over a few actions.

    Attributes:
        model: the DQN model; its environment only says what shapes observations and actions have.
        curves: where its figures are written.

    Args:
        config: sizes, seed and DQN's settings.
        out: folder of the training; curves go to ``tensorboard/`` in it.
        done: iterations done before, by earlier members or before a training is taken up again.
    """

    def __init__(self, config: TrainConfig, out: Path, done: int = 0) -> None:
        self.config, self.curves = config, Curves(config, out, done)
        own = config.dqn
        spaces = BatchedLearningRateEnv(config.runs, None, config.group_size, config.draw, config.control)
        self.model = DQN(
            "MlpPolicy",
            SB3VecEnv(spaces, own.choices),
            learning_rate=own.learning_rate,
            buffer_size=own.memory * config.control.decision_count * config.runs,
            batch_size=own.minibatch,
            gamma=1.0,
            n_steps=own.returns,
            target_update_interval=config.runs,  # unused here, and smaller ones are warned of
            policy_kwargs={"net_arch": list(config.hidden), "activation_fn": nn.Tanh},
            seed=member_seed(config, done),
            device="cpu",
        )
        self.model.set_logger(self.curves.logger)

    def orders(self, iteration: int) -> list[Order]:
        """The episodes that iteration number ``iteration`` wants to learn from."""
        policy, own = self.policy({}, "learning"), self.config.dqn
        exploration = EpsilonGreedy(self._epsilon(iteration), own.choices)
        return [Order(policy, exploration, iteration, group) for group in range(self.config.groups)]

    def _epsilon(self, iteration: int) -> float:
        """Share of random actions: it falls from 1 over the first half of each member's iterations."""
        begun = min(1.0, 2.0 * (iteration % self.config.iterations) / self.config.iterations)
        return 1.0 - begun + self.config.dqn.epsilon * begun

    def update(self, episodes: Sequence[Episode], iteration: int) -> Figures:
        """Learn from the episodes of an iteration, in their order, and from those remembered."""
        own, model = self.config.dqn, self.model
        seed_iteration(self.config, iteration)
        model.lr_schedule = falling_rate(self.config, own.learning_rate, iteration)
        self.curves.log("rollout", {"epsilon": self._epsilon(iteration)})
        self._remember(episodes)
        for begun in range(0, own.updates, own.target_every):
            model.train(min(own.target_every, own.updates - begun), own.minibatch)
            polyak_update(model.q_net.parameters(), model.q_net_target.parameters(), tau=1.0)
        return outcome(episodes)

    def _remember(self, episodes: Sequence[Episode]) -> None:
        """What DQN's own collection would leave behind."""
        observations, actions, rewards = joined(episodes)
        numbers = np.abs(actions[..., None] - np.array(self.config.dqn.choices, np.float32)).argmin(axis=-1)
        last, runs = len(observations) - 1, self.config.runs
        for decision, (seen, number, reward) in enumerate(zip(observations, numbers, rewards, strict=True)):
            done = np.full(runs, decision == last)
            following = observations[min(decision + 1, last)]  # after the end it does not count
            self._buffer.add(seen, following, number[:, None], reward, done, [{}] * runs)

    @property
    def _buffer(self) -> ReplayBuffer:
        assert self.model.replay_buffer is not None
        return self.model.replay_buffer

    def policy(self, provenance: dict[str, Any], name: str) -> Policy:
        """Whatever choice the network values most now."""
        layers = linear_layers(self.model.q_net.q_net)
        return Policy(layers, self.config.control, provenance, name, self.config.dqn.choices)

    def state_dict(self) -> dict[str, Any]:
        """Both networks, the optimizer, and what is remembered."""
        policy, buffer = self.model.policy, self._buffer
        return {
            "network": policy.state_dict(),
            "optimizer": policy.optimizer.state_dict(),
            "memory": {name: torch.from_numpy(getattr(buffer, name)) for name in _MEMORY},
            "place": [buffer.pos, buffer.full],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        policy, buffer = self.model.policy, self._buffer
        policy.load_state_dict(state["network"])
        policy.optimizer.load_state_dict(state["optimizer"])
        for name in _MEMORY:
            getattr(buffer, name)[:] = state["memory"][name].numpy()
        buffer.pos, buffer.full = state["place"]
