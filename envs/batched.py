"""Many runs as one vector environment, on the engine."""

import gc
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rl_lr.config import ControlConfig, DrawConfig
from rl_lr.envs.spaces import action_space, observation_space
from rl_lr.randomness import Randomness
from rl_lr.rollout import Rollout, draw, split
from rl_lr.tasks import Family, Task, resolve
from rl_lr.tasks.families import mixture
from rl_lr.tasks.task import central_rate

Array = NDArray[Any]


class BatchedLearningRateEnv(VectorEnv[NDArray[np.float32], NDArray[np.float32], Array]):
    """``num_envs`` runs in groups; a group shares a task, drawn anew for every episode.

    Every run has the same number of decisions, so all episodes begin and end together. A run
    that diverges stays in its episode at the worst score, which costs the others nothing.
    Autoreset happens in the same step: at the end of an episode the observation returned is the
    first of the next one, ``infos["final_obs"]`` holds the last, ``infos["final_info"]`` the
    initial and final loss and the base rate's factor of every run.

    Args:
        num_envs: number of runs, a multiple of ``group_size``.
        task: a task, the name of one, or a family; None draws from the training families.
        group_size: runs that share a task; None puts all into one group.
        config: how horizons, base rates and schedules are drawn.
        control: constants of the control law.
        device: where the runs live.

    Raises:
        ValueError: if ``num_envs`` is no multiple of ``group_size``, or runs are shorter than their decisions.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 64,
        task: str | Task | Family | None = None,
        group_size: int | None = None,
        config: DrawConfig | None = None,
        control: ControlConfig | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.group_size = group_size or num_envs
        if num_envs < 1 or num_envs % self.group_size:
            raise ValueError(
                f"num_envs={num_envs} is not a positive multiple of group_size={self.group_size}: change one of them."
            )
        self.num_envs = num_envs
        self.config, self.control = config or DrawConfig(), control or ControlConfig()
        if self.config.min_steps < self.control.decision_count:
            raise ValueError(
                f"min_steps={self.config.min_steps} is shorter than the {self.control.decision_count} decisions "
                f"of a run: choose horizons of at least that many steps."
            )
        self._family = resolve(task or mixture)
        self._device = device
        self.single_observation_space, self.single_action_space = observation_space(), action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._parts: list[Rollout] = []

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draw new groups.

        Episode number n after ``reset(seed=s)`` depends on (s, n) alone. Of a list of seeds the
        first counts.
        """
        if isinstance(seed, list):
            seed = seed[0] if seed else None
        super().reset(seed=seed)
        self._entropy = int(self.np_random.integers(2**31))
        self._episode = 0
        self._begin()
        return self._observe(), {}

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Act in every run and go on to the next decision.

        Args:
            actions: ``[num_envs, 1]``, in [-1, 1].

        Returns:
            Signals ``[num_envs, NUM_SIGNALS]``, rewards ``[num_envs]`` in nats, whether the episode is over,
            False (nothing is truncated), and at the end of an episode what it came to.
        """
        if not self._parts:
            raise gym.error.ResetNeeded("Call reset before step.")
        moves = torch.as_tensor(np.asarray(actions, np.float32).reshape(-1)).to(self._device)
        sizes = [part.rows for part in self._parts]
        with self._randomness.own():
            rewards = [part.advance(move) for part, move in zip(self._parts, moves.split(sizes), strict=True)]
        reward = torch.cat(rewards).cpu().numpy()
        done = np.full(self.num_envs, self._parts[0].done)
        infos: dict[str, Any] = {}
        observation = self._observe()
        if done[0]:
            infos = self._final_infos(observation)
            self._begin()
            observation = self._observe()
        return observation, reward, done, np.zeros_like(done), infos

    def _begin(self) -> None:
        self._parts = []
        gc.collect()  # traced graphs refer to themselves; their memory is wanted for the next ones
        count = self.num_envs // self.group_size
        rng = np.random.default_rng([self._entropy, self._episode])
        draws = [draw(self._family, self.group_size, rng, self.config) for _ in range(count)]
        self._randomness = Randomness(draws[0].seeds[0])
        self._parts = [
            Rollout(part, self.control, self._device)
            for drawn in draws
            for part in split(drawn, self._device)
        ]
        self._episode += 1

    def _observe(self) -> NDArray[np.float32]:
        return torch.cat([part.signals() for part in self._parts]).cpu().numpy()

    def _final_infos(self, observation: NDArray[np.float32]) -> dict[str, Any]:
        everywhere = np.ones(self.num_envs, dtype=bool)
        final = np.empty(self.num_envs, dtype=object)
        final[:] = list(observation)
        initial = torch.cat([part.initial_loss for part in self._parts]).cpu().numpy()
        loss = torch.cat([p.final_loss for p in self._parts if p.final_loss is not None]).cpu().numpy()
        factor = np.concatenate([np.array(p.draw.base_lrs) / central_rate(p.draw.task) for p in self._parts])
        details: dict[str, Any] = {}
        for name, value in (("initial_loss", initial), ("final_loss", loss), ("base_factor", factor)):
            details |= {name: value, f"_{name}": everywhere}
        return {
            "final_obs": final,
            "_final_obs": everywhere,
            "final_info": details,
            "_final_info": everywhere,
        }
