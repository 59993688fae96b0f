"""A Lightning fit as an environment: the user's Trainer, stepped through the callback that deploys."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_lr.config import ControlConfig
from rl_lr.envs.fit_group import FitGroup
from rl_lr.envs.spaces import action_space, observation_space
from rl_lr.reward import score
from rl_lr.rollout import Draw
from rl_lr.schedules import BaseSchedule

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule

    from rl_lr.envs.fit_under_way import FitUnderWay

Array = NDArray[np.float32]


class LightningFit(gym.Env[Array, Array]):
    """One ``Trainer.fit`` of a LightningModule; each action moves the offset and trains on to the next decision.

    ::

        env = LightningFit(MyModule, MyDataModule, {"max_epochs": 3})
        rl_lr.train("runs/mine", [env])

    Module, data and Trainer are built anew for every episode, as they would be without us, and run in a thread
    of their own that stops at decisions. Observation, action and reward are those of
    :class:`rl_lr.envs.LearningRateEnv`, read through :class:`rl_lr.callbacks.RLLearningRate`. The base rate is what
    ``configure_optimizers`` gives times a factor, log-uniform in [1 / ``misfactor``, ``misfactor``].
    It is a task for :func:`rl_lr.train`, too: the fits of a group then wait for each other at decisions, and factors,
    base schedules and control constants are those of the training (:class:`rl_lr.config.TrainConfig`).

    ``reset(options={"seed": 3, "factor": 0.1})`` sets what would be drawn: the seed of Python's, numpy's and
    torch's global generators, and the factor.

    Args:
        module_factory: builds the module.
        data_factory: builds the DataModule or the loader of training batches; None if the module has its own.
        trainer_kwargs: arguments of the Trainer, copied for every fit. Loggers, checkpoints and progress bar are
            off unless they say otherwise.
        monitor: metric that ``validation_step`` logs and that the end of a run is judged by, a loss, lower being
            better and above zero, measured before and after the fit; None judges by the mean training loss of the last tenth of its steps, against
            that of the initial weights on as many.
        optimizer: which of several is controlled, by number or name.
        base_schedule: the shape that the rate follows where nothing is done.
        on_conflict: what becomes of a scheduler of the module's own, as for the callback.
        misfactor: largest factor between the base rate and the module's own.
        control: constants of the control law.
        name: as tables call it; None takes the factory's name.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        module_factory: "Callable[[], LightningModule]",
        data_factory: "Callable[[], LightningDataModule | Any] | None" = None,
        trainer_kwargs: Mapping[str, Any] | None = None,
        *,
        monitor: str | None = None,
        optimizer: int | str | None = None,
        base_schedule: BaseSchedule = "cosine",
        on_conflict: Literal["raise", "override"] = "raise",
        misfactor: float = 100.0,
        control: ControlConfig | None = None,
        name: str | None = None,
    ) -> None:
        if not misfactor >= 1.0:
            raise ValueError(f"misfactor is {misfactor}: give at least 1.")
        self.observation_space, self.action_space = observation_space(), action_space()
        self.module_factory, self.data_factory = module_factory, data_factory
        self.trainer_kwargs = dict(trainer_kwargs or {})
        self.monitor, self.optimizer, self.on_conflict = monitor, optimizer, on_conflict
        self.base_schedule, self.misfactor, self.control = (
            base_schedule,
            misfactor,
            control or ControlConfig(),
        )
        self.name = name or str(getattr(module_factory, "__name__", type(module_factory).__name__))
        self._fit: FitUnderWay | None = None
        self._at_rest: dict[int, Tensor] | None = None
        self._horizon: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin a fit and run it to its first decision."""
        from rl_lr.envs.fit_under_way import FitUnderWay  # Lightning, which no other environment needs

        super().reset(seed=seed)
        self.close()
        drawn = {
            "seed": int(self.np_random.integers(2**31)),
            "factor": math.exp(math.log(self.misfactor) * self.np_random.uniform(-1.0, 1.0)),
        } | (options or {})
        at_rest = {} if self._at_rest is None else self._at_rest
        self._fit = FitUnderWay(self, drawn["seed"], drawn["factor"], at_rest)
        observation = self._fit.begin()
        self._score = score(torch.ones(()), torch.ones(()))
        return observation.numpy(), drawn

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Act, and train to the next decision or the end.

        Raises:
            Exception: whatever the module, its data or a callback raised, with its own traceback.
        """
        if self._fit is None:
            raise gym.error.ResetNeeded("Call reset before step.")
        fit = self._fit
        observation = fit.go_on(torch.as_tensor(np.asarray(action, np.float32)).reshape(1))
        info: dict[str, Any] = {"lr": fit.lr, "loss": float(fit.window_loss), "step": fit.step}
        now = score(fit.window_loss, fit.first_loss)
        if fit.over:
            now = score(fit.final_loss, fit.initial_loss)
            final = float(fit.final_loss)
            info |= {"loss": final, "initial_loss": float(fit.initial_loss), "final_loss": final}
            self.close()
        reward, self._score = float(self._score - now), now
        return observation.numpy(), reward, fit.over, False, info

    def horizon(self) -> int:
        """Optimizer steps of a fit, as the Trainer's settings tell: builds one to ask it, the first time."""
        if self._horizon is None:
            probe = self._another(self.base_schedule, self.control)
            probe.reset(options={"seed": 0, "factor": 1.0})
            assert probe._fit is not None
            self._horizon = probe._fit.horizon
            probe.close()
        return self._horizon

    def begin(self, drawn: Draw, control: ControlConfig) -> FitGroup:
        """The fits of a draw, before their first decision."""
        fits = [self._another(drawn.schedule, control) for _ in drawn.seeds]
        at_rest: dict[int, Tensor] = {}  # the same from every base rate, and as dear as a tenth of a fit
        for fit in fits:
            fit._at_rest = at_rest
        return FitGroup(fits, drawn.seeds, drawn.base_lrs)

    def _another(self, base_schedule: BaseSchedule, control: ControlConfig) -> "LightningFit":
        """The same, not begun."""
        other = copy.copy(self)
        other.base_schedule, other.control, other._fit = base_schedule, control, None
        return other

    def close(self) -> None:
        """End a fit that is under way; no thread and no process of it is left."""
        if self._fit is not None:
            self._fit.close()
            self._fit = None
