"""A thin adapter that lets stable-baselines3 train on the batched environment."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from rl_lr.envs.batched import BatchedLearningRateEnv
from rl_lr.reward import relative_score, score

Array = NDArray[Any]


class SB3VecEnv(VecEnv):
    """:class:`BatchedLearningRateEnv` as SB3's ``VecEnv``.

    Args:
        env: the environment.
        paired: pay each run by its standing within its group, which shares a task: the final
            account is settled with :func:`rl_lr.reward.relative_score`, and of every reward the
            mean of the others' at the same decision is taken off. The others hardly depend on
            this run's actions, so how hard the task is drops out of what the critic must learn.
        first_episode: number of the episode that :meth:`reset` begins with.
    """

    def __init__(self, env: BatchedLearningRateEnv, paired: bool = False, first_episode: int = 0) -> None:
        if paired and env.group_size < 2:
            raise ValueError("Paired rewards need at least two runs in a group: raise group_size.")
        self.env, self.paired, self.first_episode = env, paired, first_episode
        self.render_mode = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions: NDArray[np.float32] = np.zeros((env.num_envs, 1), np.float32)

    def reset(self) -> VecEnvObs:
        """First observations of new episodes, with the seed given by :meth:`seed`, if any."""
        observation, _ = self.env.reset(seed=self._seeds[0], options={"episode": self.first_episode})
        self._reset_seeds()
        return observation

    def step_async(self, actions: NDArray[np.float32]) -> None:
        """Remember the actions."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Carry them out; at the end of an episode each info holds ``terminal_observation``."""
        observation, reward, done, _, infos = self.env.step(self._actions)
        if self.paired:
            reward = self._pair(reward, infos.get("final_info"))
        each: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if done[0]:
            details = infos["final_info"]
            for index, info in enumerate(each):
                info["terminal_observation"] = infos["final_obs"][index]
                info |= {name: float(details[name][index]) for name in details if not name.startswith("_")}
        return observation, reward.astype(np.float32), done, each

    def _pair(self, reward: Array, final: dict[str, Array] | None) -> Array:
        """Rewards relative to the group; ``final`` holds the runs' losses at the end of an episode."""
        shape = (-1, self.env.group_size)
        groups = reward.reshape(shape)
        if final is not None:
            loss, initial = (
                torch.from_numpy(final[f"{name}_loss"]).view(shape) for name in ("final", "initial")
            )
            groups = groups + (score(loss, initial) - relative_score(loss, initial)).numpy()
        others = (groups.sum(axis=1, keepdims=True) - groups) / (self.env.group_size - 1)
        relative: Array = (groups - others).reshape(-1)
        return relative

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
