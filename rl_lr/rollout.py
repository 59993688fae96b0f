"""Runs under control: an engine and a controller, advanced from decision to decision."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rl_lr.averaging import fold
from rl_lr.config import ControlConfig, DrawConfig
from rl_lr.controller import Controller
from rl_lr.engine import Engine, bytes_per_run
from rl_lr.reward import score
from rl_lr.schedules import BaseSchedule
from rl_lr.sketches import Granularity, Sketches
from rl_lr.snapshots import copy_rows
from rl_lr.tasks.task import Family, Fit, Task, central_rate, steppable


@dataclass(frozen=True)
class Draw:
    """Everything that defines a group of runs of one task."""

    task: Task | Fit
    """What is trained."""
    seeds: tuple[int, ...]
    """Of each run: initial weights and mini-batches."""
    base_lrs: tuple[float, ...]
    """Base rate of each run."""
    total_steps: int
    """Horizon, in optimizer steps."""
    schedule: BaseSchedule = "cosine"
    """Base schedule."""

    @property
    def runs(self) -> int:
        """How many."""
        return len(self.seeds)

    def parts(self, size: int) -> "list[Draw]":
        """The same runs in parts of ``size``, the last one perhaps smaller."""
        slices = [slice(start, start + size) for start in range(0, self.runs, size)]
        return [replace(self, seeds=self.seeds[s], base_lrs=self.base_lrs[s]) for s in slices]


_CACHE = 8 * 2**20  # bytes that a processor's cache holds for one core
_SMALLEST_PART = 16  # fewer runs than this cost more per run than a missed cache
_TRACE_FROM = 200  # steps from which tracing a group saves more time than it takes
_OTHER_SCHEDULES: tuple[BaseSchedule, ...] = ("linear", "wsd", "constant")


def draw(family: Family, runs: int, rng: np.random.Generator, config: DrawConfig) -> Draw:
    """A task of the family and ``runs`` runs of it, base rates spread over the whole range.

    The log base rates are stratified: one in each of ``runs`` equal intervals, in random order. All
    runs begin with the same weights and see the same mini-batches, so that what sets them apart is
    how their rates were set.
    """
    task = family(rng)
    total_steps = _horizon(task, rng, config)
    position = (rng.permutation(runs) + rng.random(runs)) / runs
    factors = config.misfactor ** (2.0 * position - 1.0)
    schedule: BaseSchedule = "cosine"
    if rng.random() < config.other_schedules:
        schedule = _OTHER_SCHEDULES[rng.choice(3)]
    seed = int(rng.integers(2**31))
    return Draw(task, (seed,) * runs, tuple(central_rate(task) * factors), total_steps, schedule)


def _horizon(task: Task | Fit, rng: np.random.Generator, config: DrawConfig) -> int:
    """Log-uniform up to the longest that is affordable; of a fit its own."""
    if isinstance(task, Fit):
        return task.horizon()
    affordable = max(12 * config.min_steps, config.max_bytes / bytes_per_run(task))
    longest = min(config.max_steps, affordable)
    return round(float(np.exp(rng.uniform(np.log(config.min_steps), np.log(longest)))))


def part_size(drawn: Draw, device: torch.device | str = "cpu") -> int:
    """How many of a draw's runs are best stepped together: as many as a processor's cache holds."""
    runs = drawn.runs
    if torch.device(device).type != "cpu" or runs <= _SMALLEST_PART or isinstance(drawn.task, Fit):
        return runs
    largest = max(_SMALLEST_PART, _CACHE // bytes_per_run(drawn.task))
    return math.ceil(runs / math.ceil(runs / largest))  # parts of equal size


def split(drawn: Draw, device: torch.device | str = "cpu") -> list[Draw]:
    """The runs of a draw in parts of :func:`part_size`; on an accelerator in one.

    Each part goes from decision to decision by itself, so that its tensors stay in the cache.
    """
    return drawn.parts(part_size(drawn, device))


class Rollout:
    """A group of runs, stopped at every decision.

    Attributes:
        draw: what is run.
        controller: its control state.
        engine: its optimizees.
        base_lrs: ``[runs]`` float64.
        rows: what the policy decides about, one by one.
        done: whether the horizon is reached.

    First :meth:`signals` tells what the policy sees, then :meth:`advance` acts and runs on. Where every
    tensor has a rate, each counts as a run of its own there, with the loss of its run: ``rows`` are
    runs × tensors, the tensors of a run side by side.

    With ``average``, losses on the fixed sample and on rows kept apart are those of the averaged weights
    (:mod:`rl_lr.averaging`); rewards between decisions are not, being of training losses.
    """

    def __init__(
        self,
        drawn: Draw,
        config: ControlConfig | None = None,
        device: torch.device | str = "cpu",
        granularity: Granularity = "network",
        average: bool = False,
    ) -> None:
        self.draw, self._task = drawn, steppable(drawn.task)
        traced = drawn.total_steps >= _TRACE_FROM
        self.engine = Engine(self._task, drawn.seeds, device, traced)
        sizes = [p[0].numel() for p in self.engine.parameters.values()]
        self._sketches = Sketches(sizes, granularity)
        self.rows = drawn.runs * self._sketches.rows
        self.controller = Controller(
            self.rows,
            self._sketches.width,
            drawn.total_steps,
            drawn.schedule,
            config,
            device,
            self._sketches.rows,
        )
        self.base_lrs = torch.tensor(drawn.base_lrs, dtype=torch.float64, device=device)
        guarded = math.isfinite(self.controller.config.guard_ratio)
        self._trusted, self._recent = (
            [tensor.clone() for tensor in self.engine.state] if guarded else [] for _ in range(2)
        )
        self._average = [tensor.clone() for tensor in self.engine.iterates] if average else []
        self.initial_loss = self.engine.evaluate().double()
        self._score = score(self.initial_loss, self.initial_loss)
        self.final_loss: Tensor | None = None

    @property
    def done(self) -> bool:
        """Whether the horizon is reached."""
        return self.controller.over

    def signals(self) -> Tensor:
        """What the policy sees at the open decision, ``[rows, NUM_SIGNALS]``; call it once."""
        self._rewind()
        return self.controller.signals()

    def advance(self, actions: Tensor) -> Tensor:
        """Act, ``[rows]``, run to the next decision or the end, and return the rewards ``[runs]``.

        Between decisions a reward is the drop of the score of the mean training loss, which
        costs nothing; the last one settles the account with the loss on the fixed sample.
        """
        self.controller.act(actions)
        losses = []
        while not self.done and not self.controller.due:
            losses.append(self._step())
        if self.done:
            self._rewind()
            self.final_loss = self._evaluate().double()
            now = score(self.final_loss, self.initial_loss)
        else:
            now = score(torch.stack(losses).double().mean(dim=0), self.initial_loss)
        reward, self._score = self._score - now, now
        return reward

    def _rewind(self) -> None:
        """Put runs that have fallen back to where they were healthy, and keep where the healthy are.

        As :class:`rl_lr.snapshots.Snapshots` does: what was kept last is trusted once a run is healthy again.
        """
        fallen, healthy = (rows.view(self.draw.runs, -1)[:, 0] for rows in self.controller.rewind())
        if not self._recent:
            return
        copy_rows(self.engine.state, self._trusted, fallen)
        copy_rows(self._recent, self._trusted, fallen)
        if self._average:
            copy_rows(self._average, self.engine.iterates, fallen)
        if healthy.all():
            self._trusted, self._recent = self._recent, self._trusted
        else:
            copy_rows(self._trusted, self._recent, healthy)
        copy_rows(self._recent, self.engine.state, healthy)

    def close(self) -> None:
        """Nothing is held open."""

    @property
    def step(self) -> int:
        """Optimizer steps made."""
        return self.controller.step

    def look(self) -> tuple[Tensor, Tensor]:
        """Loss on the fixed sample, and rate of the coming step, of the tensors of a run the geometric mean."""
        return self._evaluate().double(), self.lrs.log().mean(dim=1).exp()

    def held_out_loss(self) -> Tensor:
        """Loss on the rows that the task keeps apart; if it has none, on the fixed sample."""
        return self._evaluate(getattr(self._task, "held_out", None) or None)

    @property
    def lrs(self) -> Tensor:
        """Rates of the coming step, ``[runs, 1]``, or ``[runs, tensors]`` where each has its own."""
        return self.base_lrs[:, None] * self.controller.rates().view(self.draw.runs, -1)

    def _step(self) -> Tensor:
        controller, engine, sketches = self.controller, self.engine, self._sketches
        weights = sketches(list(engine.parameters.values())) if controller.now.measured else None
        loss, gradients = engine.step(self.lrs)
        felt = loss.repeat_interleave(sketches.rows)
        controller.record(felt, None if weights is None else sketches(gradients), weights)
        if self._average:
            fold(self._average, engine.iterates, controller.step)
        return loss

    def _evaluate(self, rows: tuple[Tensor, ...] | None = None) -> Tensor:
        """Loss of the weights that are the result."""
        if not self._average:
            return self.engine.evaluate(rows)
        trained = [tensor.clone() for tensor in self.engine.iterates]
        torch._foreach_copy_(self.engine.iterates, self._average)
        losses = self.engine.evaluate(rows)
        torch._foreach_copy_(self.engine.iterates, trained)
        return losses
