"""What the iterations of every agent have in common."""

from collections.abc import Callable

import numpy as np
from stable_baselines3.common.utils import set_random_seed

from rl_lr.config import TrainConfig


def member_seed(config: TrainConfig, done: int) -> int:
    """Seed of the network of the member that begins or goes on after ``done`` iterations."""
    return config.seed + done // config.iterations


def seed_iteration(config: TrainConfig, iteration: int) -> None:
    """Seed all generators by (seed, iteration), so that a resumed training needs none of their states."""
    seed = np.random.SeedSequence([config.seed, iteration]).generate_state(1)[0]
    set_random_seed(int(seed))


def falling_rate(config: TrainConfig, start: float, iteration: int) -> Callable[[float], float]:
    """The step size of an iteration, for SB3: it falls linearly from ``start`` to a tenth of it."""
    remaining = 1.0 - iteration % config.iterations / config.iterations
    return lambda _: start * (0.1 + 0.9 * remaining)
