"""Designing a network as an environment: each action adds a layer, the reward is the finished network's accuracy."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete
from numpy.typing import NDArray

from rl_lr.design.children import Judge
from rl_lr.design.problems import Digits
from rl_lr.design.space import Taken, refuse

Observation = NDArray[np.int64]


class ArchitectureEnv(gym.Env[Observation, np.int64]):
    """One network, from nothing to its end.

    Observation: the actions so far, 0 where none came yet, else the number of the action plus 1. Action: the
    number of a word of the space, such as ``conv(8,3)`` or ``end``. Reward: 0 until the network is complete,
    then its held-out accuracy after a short training under the learning-rate policy
    (:class:`rl_lr.design.children.Judge`).

    ``info["action_mask"]``, and :meth:`action_masks` as sb3-contrib asks for it, say which actions are legal.
    An illegal one ends the episode with reward 0, and ``info["refused"]`` says why in one sentence.

    Args:
        judge: what trains and judges, over any space, of layers or of cells; None for layers on
            :class:`rl_lr.design.problems.Digits`, results kept in memory.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012

    def __init__(self, judge: Judge[Any] | None = None, render_mode: str | None = None) -> None:
        self.judge: Judge[Any] = judge or Judge(Digits())
        self.space, self.render_mode = self.judge.problem.space, render_mode
        self.action_space = Discrete(len(self.space.words))
        self.observation_space = MultiDiscrete([len(self.space.words) + 1] * self.space.longest)
        self._taken: Taken = ()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin with nothing; there is no chance in it."""
        super().reset(seed=seed)
        self._taken = ()
        return self._observation(), {"action_mask": self.action_masks()}

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Add what the action says; once the network is complete, train and judge it.

        Returns:
            Observation, reward, whether the network is complete or was refused, False (nothing is truncated),
            and the mask; at the end also ``"design"``, the network in words, or ``"refused"``.
        """
        if refused := refuse(self.space, self._taken, int(action)):
            return (
                self._observation(),
                0.0,
                True,
                False,
                {"action_mask": self.action_masks(), "refused": refused},
            )
        self._taken = (*self._taken, int(action))
        info: dict[str, Any] = {"action_mask": self.action_masks()}
        if self.space.legal(self._taken):
            return self._observation(), 0.0, False, False, info
        child = self.judge(self.space.design(self._taken))
        return self._observation(), child.reward, True, False, info | {"design": child.design}

    def action_masks(self) -> NDArray[np.int8]:
        """1 for each action that is legal now, ``[actions]`` int8."""
        mask = np.zeros(len(self.space.words), dtype=np.int8)
        mask[self.space.legal(self._taken)] = 1
        return mask

    def render(self) -> str | None:
        """The network so far, in words."""
        return " ".join(self.space.words[one] for one in self._taken) if self.render_mode == "ansi" else None

    def _observation(self) -> Observation:
        observation = np.zeros(self.space.longest, dtype=np.int64)
        observation[: len(self._taken)] = np.array(self._taken, dtype=np.int64) + 1
        return observation
