"""Gymnasium environments: a training run whose actions set step sizes.

Importing this package registers ``rl_lr/LearningRate-v0``: ``gym.make`` gives a single run on
the deployment path (:class:`LearningRateEnv`), ``gym.make_vec`` many runs on the engine
(:class:`BatchedLearningRateEnv`). It also registers ``rl_lr/Architecture-v0``, in which actions
design a network (:class:`ArchitectureEnv`).
"""

import gymnasium as gym

from rl_lr.envs.actions import DiscreteActions
from rl_lr.envs.architecture import ArchitectureEnv
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

ARCHITECTURE_ENV_ID = "rl_lr/Architecture-v0"
"""For ``gym.make``: a network is designed."""

gym.register(ARCHITECTURE_ENV_ID, entry_point="rl_lr.envs.architecture:ArchitectureEnv")

__all__ = [
    "ARCHITECTURE_ENV_ID",
    "ENV_ID",
    "ArchitectureEnv",
    "BatchedLearningRateEnv",
    "DiscreteActions",
    "LearningRateEnv",
    "LightningFit",
]
