"""Proximal policy optimization: stable-baselines3's, fed with episodes that others played."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from stable_baselines3 import PPO
from torch import nn

from rl_lr.agents.curves import Curves, Figures, outcome
from rl_lr.agents.export import linear_layers, put_layers
from rl_lr.agents.iteration import falling_rate, member_seed, seed_iteration
from rl_lr.agents.privileged import PrivilegedCriticPolicy
from rl_lr.agents.standing import STANDING, standing
from rl_lr.config import PPOConfig, TrainConfig
from rl_lr.envs.spaces import action_space
from rl_lr.episodes import Episode, Order, joined
from rl_lr.exploration import Gaussian
from rl_lr.policy import Policy
from rl_lr.signals import CLIP, NUM_SIGNALS


class PPOAgent:
    """A PPO model over continuous actions.

    Attributes:
        model: the PPO model, of a critic that sees also how runs stand (:mod:`rl_lr.agents.standing`).
        curves: where its figures are written.

    Args:
        config: sizes, seed and PPO's settings.
        out: folder of the training; curves go to ``tensorboard/`` in it.
        done: iterations done before, by earlier members or before a training is taken up again.
        start: a policy of the sizes in ``config`` that it begins from.
    """

    def __init__(self, config: TrainConfig, out: Path, done: int = 0, start: Policy | None = None) -> None:
        self.config, self.curves = config, Curves(config, out, done)
        own = config.ppo if start is None else _beginning_from_a_policy(config)
        self._learning_rate, self._critic_first = own.learning_rate, config.start.critic_first if start else 0
        self.model = PPO(
            PrivilegedCriticPolicy,
            env=None,  # type: ignore[arg-type]  # episodes come from elsewhere
            learning_rate=own.learning_rate,
            n_steps=config.control.decision_count,
            batch_size=own.minibatch,
            n_epochs=own.epochs,
            gamma=1.0,
            gae_lambda=own.gae_lambda,
            clip_range=own.clip,
            ent_coef=own.entropy,
            target_kl=0.05,
            policy_kwargs={
                "net_arch": list(config.hidden),
                "activation_fn": nn.Tanh,
                "log_std_init": own.log_std,
            },
            seed=member_seed(config, done),
            device="cpu",
            _init_setup_model=False,
        )
        self.model.observation_space = Box(-CLIP, CLIP, (NUM_SIGNALS + len(STANDING),))
        self.model.action_space, self.model.n_envs = action_space(), config.runs
        self.model._setup_model()
        self.model.set_logger(self.curves.logger)
        if start is not None:
            put_layers(self._actor, start.layers)

    def orders(self, iteration: int) -> list[Order]:
        """The episodes that iteration number ``iteration`` wants to learn from."""
        policy = self.policy({}, "learning")
        exploration = Gaussian(float(self.model.policy.log_std.exp().item()))
        return [Order(policy, exploration, iteration, group) for group in range(self.config.groups)]

    def update(self, episodes: Sequence[Episode], iteration: int) -> Figures:
        """Learn from the episodes of an iteration, in their order."""
        seed_iteration(self.config, iteration)
        self.model.lr_schedule = falling_rate(self.config, self._learning_rate, iteration)
        self._fill_buffer(episodes)
        for parameter in self.model.policy.parameters():
            parameter.requires_grad_()
        if iteration < self._critic_first:
            for module in self._actor:
                module.requires_grad_(False)
            self.model.policy.log_std.requires_grad_(False)
        self.model.train()
        return outcome(episodes)

    def _fill_buffer(self, episodes: Sequence[Episode]) -> None:
        """What PPO's own collection would leave behind: values and probabilities are the learner's."""
        signals, actions, rewards = joined(episodes)
        places = np.concatenate([standing(episode, self.config.control) for episode in episodes], axis=1)
        observations = np.concatenate((signals, places), axis=-1)
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
        return Policy(linear_layers(self._actor), self.config.control, provenance, name)

    @property
    def _actor(self) -> list[nn.Module]:
        """The modules from signals to the mean of the actions, in order."""
        return [*self.model.policy.mlp_extractor.policy_net, self.model.policy.action_net]

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizer: episodes start fresh, and seeds follow from the iteration."""
        policy = self.model.policy
        return {"network": policy.state_dict(), "optimizer": policy.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.model.policy.load_state_dict(state["network"])
        self.model.policy.optimizer.load_state_dict(state["optimizer"])


def _beginning_from_a_policy(config: TrainConfig) -> PPOConfig:
    return replace(config.ppo, learning_rate=config.start.learning_rate, log_std=config.start.log_std)
