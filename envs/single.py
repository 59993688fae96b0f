"""A single run as an environment, on the path that deploys: torch optimizer and RLScheduler."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from rl_lr.batches import Batches
from rl_lr.config import ControlConfig, DrawConfig
from rl_lr.engine import build_objective
from rl_lr.envs.spaces import action_space, observation_space
from rl_lr.randomness import Randomness
from rl_lr.reward import score
from rl_lr.rollout import Draw, draw
from rl_lr.scheduler import RLScheduler
from rl_lr.tasks import Family, Task, resolve
from rl_lr.tasks.families import mixture
from rl_lr.tasks.task import steppable


class LearningRateEnv(gym.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One training run; each action moves the offset and trains on to the next decision.

    Observation: the signals of :mod:`rl_lr.signals`. Action: change of the offset in units of
    the largest, [-1, 1]. Reward: drop of :func:`rl_lr.reward.score`. An episode terminates at
    the horizon, or when the run diverged beyond recovery (its weights are no longer finite).

    ``reset(options={"draw": draw})`` runs exactly that :class:`rl_lr.rollout.Draw` of one run.

    Args:
        task: a task, the name of one, or a family; None draws from the training families.
        config: how horizons, base rates and schedules are drawn.
        control: constants of the control law.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        task: str | Task | Family | None = None,
        config: DrawConfig | None = None,
        control: ControlConfig | None = None,
    ) -> None:
        self.observation_space, self.action_space = observation_space(), action_space()
        self.config, self.control = config or DrawConfig(), control or ControlConfig()
        self._family = resolve(task or mixture)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draw a run and build its network, optimizer and scheduler.

        Args:
            seed: of the drawing; None goes on where the generator is.
            options: ``{"draw": Draw}`` for a run that is given instead of drawn.

        Returns:
            The signals, ``[NUM_SIGNALS]`` float32, and ``{"task": name}``.
        """
        super().reset(seed=seed)
        drawn: Draw | None = (options or {}).get("draw")
        self.draw = drawn or draw(self._family, 1, self.np_random, self.config)
        self._task, run_seed = steppable(self.draw.task), self.draw.seeds[0]
        task = self._task
        self.objective = build_objective(task, run_seed)
        self.optimizer = task.optimizer.build(self.objective.parameters(), self.draw.base_lrs[0])
        self.scheduler = RLScheduler(
            self.optimizer, self.draw.total_steps, None, self.draw.schedule, self.control
        )
        self._batches, self._randomness = Batches(task, [run_seed]), Randomness(run_seed)
        self._initial = self._evaluate()
        self._score = score(self._initial, self._initial)
        return self.scheduler.signals()[0].numpy(), {"task": task.name}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Act, train to the next decision or the end, and look.

        Args:
            action: one number in [-1, 1], of any shape.

        Returns:
            Signals, reward in nats, whether the run is at its end, False (nothing is truncated), and the rate
            of the coming step as ``"lr"``; at the end also ``"initial_loss"`` and ``"final_loss"``.
        """
        self.scheduler.act(torch.as_tensor(np.asarray(action, np.float32)).reshape(1))
        losses = []
        with self._randomness.own():
            while not self._finished and not self.scheduler.due:
                losses.append(self._train_one())
        now = score(torch.stack(losses).mean(), self._initial)
        observation = self.scheduler.signals()[0].numpy()
        lost = not all(p.isfinite().all() for p in self.objective.parameters())
        info: dict[str, Any] = {"lr": self.scheduler.get_last_lr()[0]}
        if self._finished or lost:
            final = self._evaluate()
            now = score(final, self._initial)
            info |= {"initial_loss": float(self._initial), "final_loss": float(final)}
        reward, self._score = float(self._score - now), now
        return observation, reward, self._finished or lost, False, info

    @property
    def _finished(self) -> bool:
        return self.scheduler.controller.step >= self.draw.total_steps

    def _train_one(self) -> torch.Tensor:
        batch = (rows[0] for rows in self._batches.rows(self._batches.draw()))
        self.optimizer.zero_grad()
        loss: torch.Tensor = self.objective(*batch)
        loss.backward()
        self._task.optimizer.clip(self.objective.parameters())
        self.optimizer.step()
        self.scheduler.step(loss)
        return loss.detach().double()

    def _evaluate(self) -> torch.Tensor:
        self.objective.eval()
        with torch.no_grad():
            loss: torch.Tensor = self.objective(*self._batches.fixed()).double()
        self.objective.train()
        return loss
