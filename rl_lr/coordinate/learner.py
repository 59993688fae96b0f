"""Learning a coordinate-wise network: truncated back-propagation through unrolled runs, Adam on its weights."""

import math
import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl_lr.coordinate.config import UnrollConfig
from rl_lr.coordinate.network import CoordinateNetwork
from rl_lr.coordinate.sizes import affordable
from rl_lr.coordinate.unroll import Runs
from rl_lr.engine import Engine
from rl_lr.memory import is_out_of_memory
from rl_lr.tasks.task import Task

Figures = dict[str, float]
_LAST_RATE = 0.05  # of a member's first one
_TRAINING, _NETWORK = 0, 1  # streams of seeds


class Learner:
    """The network that learns, and Adam, which moves it after every unroll.

    The same tasks and iterations make the same network, bit for bit: everything that is drawn follows from
    (seed, iteration).

    Attributes:
        network: as it is now.

    Args:
        config: sizes, seed and settings.
        member: number of the member, which sets its step size and its initial weights.
    """

    def __init__(self, config: UnrollConfig, member: int) -> None:
        self.config, self._rate = config, config.learning_rates[member]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seeds(config.seed, _NETWORK, member, 1)[0])
            self.network = CoordinateNetwork(config.network)
        self._adam = torch.optim.Adam(self.network.parameters(), self._rate)
        self._truncation = config.truncation

    def iterate(self, tasks: Sequence[Task], iteration: int) -> Figures:
        """Unroll fresh runs of every task; an unroll that does not fit into memory is shortened for good.

        Args:
            tasks: those of the iteration, ``groups`` of them.
            iteration: its number, from 0, over all members.
        """
        before = deepcopy(self.state_dict())
        while True:
            self._shorten(min(affordable(task, self.network, self.config) for task in tasks))
            try:
                return self._iterate(tasks, iteration)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or self._truncation == 1:
                    raise
                self.load_state_dict(before)
                self._shorten(self._truncation // 2)

    def _shorten(self, most: int) -> None:
        """Unroll at most so many steps, a divisor of those of a run, from now on."""
        if self._truncation <= most:
            return
        steps = self.config.steps
        fitting = max(length for length in range(1, most + 1) if steps % length == 0)
        warnings.warn(
            f"An unroll of {self._truncation} steps does not fit into memory: from now on it is {fitting}. For longer "
            f"ones, lower group_size or raise max_bytes.",
            stacklevel=3,
        )
        self._truncation = fitting

    def _iterate(self, tasks: Sequence[Task], iteration: int) -> Figures:
        self._adam.param_groups[0]["lr"] = self._falling_rate(iteration)
        unrolls, skipped, norms, ends = self.config.steps // self._truncation, 0, [], []
        for group, task in enumerate(tasks):
            seeds = _seeds(self.config.seed, _TRAINING, iteration, self.config.group_size, group)
            runs = Runs(Engine(task, seeds), self.network, self.config.second_order)
            first = runs.losses.mean()
            for _ in range(unrolls):
                losses = runs.unroll(self._truncation)
                norm = self._learn(self._objective(losses, first))
                norms.append(norm)
                skipped += not math.isfinite(norm)
            ends.append(float(runs.losses.mean() / first))
        if skipped == len(norms):
            warnings.warn(
                f"No gradient of iteration {iteration + 1} was finite, and the network has not moved: its runs blow up; "
                f"lower network.scale, or scale the loss of the task down.",
                stacklevel=4,
            )
        return {
            "end": float(np.mean(ends)),
            "gradient_norm": float(np.mean([norm for norm in norms if math.isfinite(norm)] or [math.nan])),
            "skipped": skipped / len(norms),
            "truncation": float(self._truncation),
            "learning_rate": self._adam.param_groups[0]["lr"],
        }

    def _objective(self, losses: Tensor, first: Tensor) -> Tensor:
        """What is lowered, from the losses of an unroll, ``[steps, runs]``, and the mean one at the start."""
        means = losses.mean(dim=1) / first
        return (means + 1e-12).log().mean() if self.config.objective == "log" else means.mean()

    def _learn(self, objective: Tensor) -> float:
        """A step of Adam, left out where the gradient is not finite; the norm of the gradient."""
        self._adam.zero_grad()
        objective.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm))
        if math.isfinite(norm):
            self._adam.step()
        return norm

    def _falling_rate(self, iteration: int) -> float:
        done = iteration % self.config.iterations / self.config.iterations
        return self._rate * (1.0 - (1.0 - _LAST_RATE) * done)

    def state_dict(self) -> dict[str, Any]:
        """All that the coming iterations depend on."""
        return {
            "network": self.network.state_dict(),
            "adam": self._adam.state_dict(),
            "truncation": self._truncation,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.network.load_state_dict(state["network"])
        self._adam.load_state_dict(state["adam"])
        self._truncation = state["truncation"]


def _seeds(seed: int, stream: int, iteration: int, count: int, group: int = 0) -> list[int]:
    """Of runs or networks, none of which another training with this seed has."""
    state = np.random.SeedSequence([seed, stream, iteration, group]).generate_state(count)
    return [int(one) for one in state]
