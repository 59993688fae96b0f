"""The spaces that all environments share."""

import numpy as np
from gymnasium.spaces import Box, Space
from numpy.typing import NDArray

from rl_lr.signals import CLIP, NUM_SIGNALS


def observation_space() -> Space[NDArray[np.float32]]:
    """The signals of one decision, ``[NUM_SIGNALS]`` float32 in ±CLIP."""
    return Box(-CLIP, CLIP, (NUM_SIGNALS,), np.float32)


def action_space() -> Space[NDArray[np.float32]]:
    """One action, ``[1]`` float32 in [-1, 1]: the change of the offset in units of its largest."""
    return Box(-1.0, 1.0, (1,), np.float32)
