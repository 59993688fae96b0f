"""Gymnasium environments: a training run whose actions set step sizes.

Importing this package registers ``rl_lr/LearningRate-v0``: ``gym.make`` gives a single run on
the deployment path (:class:`LearningRateEnv`), ``gym.make_vec`` many runs on the engine
(:class:`BatchedLearningRateEnv`).
"""

import gymnasium as gym

from rl_lr.envs.actions import DiscreteActions
from rl_lr.envs.batched import BatchedLearningRateEnv
from rl_lr.envs.lightning_fit import LightningFit
from rl_lr.envs.single import LearningRateEnv

ENV_ID = "rl_lr/LearningRate-v0"
"""For ``gym.make`` and ``gym.make_vec``."""

gym.register(
    ENV_ID,
    entry_point="rl_lr.envs.single:LearningRateEnv",
    vector_entry_point="rl_lr.envs.batched:BatchedLearningRateEnv",
)

__all__ = ["ENV_ID", "BatchedLearningRateEnv", "DiscreteActions", "LearningRateEnv", "LightningFit"]
