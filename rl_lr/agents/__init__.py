"""Agents: what learns a policy from episodes that others played. They import stable-baselines3."""

from pathlib import Path

from rl_lr.agents.curves import Figures
from rl_lr.agents.dqn import DQNAgent
from rl_lr.agents.ppo import PPOAgent
from rl_lr.agents.protocol import Agent
from rl_lr.config import TrainConfig
from rl_lr.policy import Policy

__all__ = ["Agent", "DQNAgent", "Figures", "PPOAgent", "build"]


def build(config: TrainConfig, out: Path, done: int = 0, start: Policy | None = None) -> Agent:
    """The agent that a configuration asks for.

    Args:
        config: sizes, seed and the agent's settings.
        out: folder of the training; curves go to ``tensorboard/`` in it.
        done: iterations done before, by earlier members or before a training is taken up again.
        start: what PPO begins from.
    """
    return DQNAgent(config, out, done) if config.agent == "dqn" else PPOAgent(config, out, done, start)
