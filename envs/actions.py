"""Discrete actions, for agents such as DQN."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray

from rl_lr.config import DQNConfig


class DiscreteActions(gym.ActionWrapper[NDArray[np.float32], np.int64, NDArray[np.float32]]):
    """Chooses among a few fixed changes of the offset; the middle one keeps it.

    >>> import rl_lr.envs
    >>> env = DiscreteActions(gym.make("rl_lr/LearningRate-v0", task="digits-linear"))
    >>> env.action_space.n, env.action(np.int64(4)).tolist()
    (np.int64(5), [1.0])
    """

    def __init__(self, env: gym.Env[Any, Any], choices: tuple[float, ...] = DQNConfig.choices) -> None:
        super().__init__(env)
        self.choices = choices
        self.action_space = Discrete(len(choices))

    def action(self, action: np.int64) -> NDArray[np.float32]:
        """The continuous action of choice number ``action``."""
        return np.array([self.choices[int(action)]], dtype=np.float32)
