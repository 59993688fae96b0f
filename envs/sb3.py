"""A thin adapter that lets stable-baselines3 train on the batched environment."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete, Space
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from rl_lr.envs.batched import BatchedLearningRateEnv


class SB3VecEnv(VecEnv):
    """:class:`rl_lr.envs.BatchedLearningRateEnv` as SB3's ``VecEnv``.

    Args:
        env: the environment.
        choices: the actions that agents with discrete actions choose among; None for any action.
    """

    def __init__(self, env: BatchedLearningRateEnv, choices: Sequence[float] | None = None) -> None:
        self.env = env
        self.render_mode = None
        self._choices = None if choices is None else np.array(choices, np.float32)
        actions: Space[Any] = env.single_action_space if choices is None else Discrete(len(choices))
        super().__init__(env.num_envs, env.single_observation_space, actions)
        self._actions: NDArray[np.float32] = np.zeros((env.num_envs, 1), np.float32)

    def reset(self) -> VecEnvObs:
        """First observations of new episodes, with the seed given by :meth:`seed`, if any."""
        observation, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        """Remember the actions, or numbers of choices."""
        self._actions = actions if self._choices is None else self._choices[actions]

    def step_wait(self) -> VecEnvStepReturn:
        """Carry them out; at the end of an episode each info holds ``terminal_observation``."""
        observation, reward, done, _, infos = self.env.step(self._actions)
        each: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if done[0]:
            details = infos["final_info"]
            for index, info in enumerate(each):
                info["terminal_observation"] = infos["final_obs"][index]
                info |= {name: float(details[name][index]) for name in details if not name.startswith("_")}
        return observation, reward.astype(np.float32), done, each

    def close(self) -> None:
        """Nothing is held open."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The batched environment's attribute, once per index."""
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set it on the one environment that all indices share."""
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call it once, and return the result once per index."""
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Never."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """There is nothing to draw."""
        return [None] * self.num_envs
