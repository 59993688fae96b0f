"""What else sets a rate: torch's own schedulers, hypergradient descent, and optimizers of other packages.

The packages are the optional extra ``rivals``; each is used as its documentation recommends.
"""

import math
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from rl_lr.compare.controlled import FACTORS
from rl_lr.compare.finder import found_rate
from rl_lr.compare.runs import Start
from rl_lr.compare.stepped import Stepped
from rl_lr.compare.workloads import Workload

OWN_GRID = (0.1, 1.0, 10.0)
"""What a self-tuning optimizer's default rate is multiplied by, where it is tuned after all."""


def rivals() -> list[Stepped]:
    """Every rival that brings its own optimizer or scheduler.

    Raises:
        ImportError: if their packages are not installed.
    """
    return [
        Stepped("one-cycle", one_cycle, FACTORS),
        Stepped("reduce on plateau", plateau, FACTORS),
        Stepped("hypergradient", hypergradient, FACTORS),
        Stepped("LR finder + one-cycle", finder, (1.0,), version("pytorch-lightning")),
        Stepped("Prodigy", prodigy, OWN_GRID, version("prodigyopt")),
        Stepped("D-Adaptation", d_adaptation, OWN_GRID, version("dadaptation")),
        Stepped("schedule-free", schedule_free, OWN_GRID, version("schedulefree"), averages=True),
    ]


class Scheduled:
    """An optimizer with, or without, one of torch's schedulers.

    Args:
        optimizer: steps.
        scheduler: is stepped after it; None for none.
        scale: what the optimizer multiplies its ``lr`` by, if anything.
    """

    def __init__(
        self, optimizer: Optimizer, scheduler: LRScheduler | None = None, scale: Callable[[], float] | None = None
    ) -> None:
        self._optimizer, self._scheduler, self._scale = optimizer, scheduler, scale

    def step(self, loss: float) -> None:
        """One update, then the scheduler's."""
        self._optimizer.step()
        if self._scheduler is not None:
            self._scheduler.step()

    @property
    def rate(self) -> float:
        """Learning rate of the coming step."""
        return float(self._optimizer.param_groups[0]["lr"]) * (1.0 if self._scale is None else self._scale())

    def evaluating(self, on: bool) -> None:
        """As schedule-free optimizers ask for."""
        switch: Any = self._optimizer
        switch.eval() if on else switch.train()


def _optimizer(parameters: list[Tensor], workload: Workload, start: Start) -> Optimizer:
    """The workload's own, at the rate that the run begins with."""
    spec = workload.task.optimizer
    return spec.build(parameters, spec.lr * start.factor)


def one_cycle(parameters: list[Tensor], workload: Workload, start: Start) -> Scheduled:
    """Smith's 1cycle (1708.07120) as torch has it, with the given rate as its peak."""
    optimizer = _optimizer(parameters, workload, start)
    peak = workload.task.optimizer.lr * start.factor
    return Scheduled(optimizer, OneCycleLR(optimizer, peak, total_steps=workload.steps + 1))


def finder(parameters: list[Tensor], workload: Workload, start: Start) -> Scheduled:
    """Lightning's learning-rate finder, then one cycle with what it suggests as the peak."""
    peak = found_rate(workload.task, start.seed)
    return one_cycle(parameters, workload, Start(peak / workload.task.optimizer.lr, start.seed))


class Plateau:
    """``ReduceLROnPlateau`` at torch's defaults, told the mean training loss of each hundredth of the run."""

    def __init__(self, optimizer: Optimizer, steps: int) -> None:
        self._optimizer, self._every = optimizer, max(1, steps // 100)
        self._scheduler = ReduceLROnPlateau(optimizer)
        self._losses: list[float] = []

    def step(self, loss: float) -> None:
        """One update; at the end of a hundredth the scheduler's."""
        self._optimizer.step()
        self._losses.append(loss)
        if len(self._losses) == self._every:
            self._scheduler.step(math.fsum(self._losses) / self._every)
            self._losses.clear()

    @property
    def rate(self) -> float:
        """Learning rate of the coming step."""
        return float(self._optimizer.param_groups[0]["lr"])


def plateau(parameters: list[Tensor], workload: Workload, start: Start) -> Plateau:
    """Lower the rate when the loss has stopped falling."""
    return Plateau(_optimizer(parameters, workload, start), workload.steps)


class Hypergradient:
    """Hypergradient descent on the rate, multiplicative form (Baydin et al., 1703.04782, section 2).

    .. code-block:: text

        η ← η (1 - β cos(g, u))        before each step

    with g the gradient, u the update made by the step before, β = 0.02.
    """

    def __init__(self, optimizer: Optimizer, parameters: list[Tensor], strength: float = 0.02) -> None:
        self._optimizer, self._parameters, self._strength = optimizer, parameters, strength
        self._update: Tensor | None = None

    def step(self, loss: float) -> None:
        """The rate's update, then the weights'."""
        before = torch.cat([p.flatten() for p in self._parameters])
        if self._update is not None:
            gradient = torch.cat([p.grad.flatten() for p in self._parameters if p.grad is not None])
            cosine = torch.nn.functional.cosine_similarity(gradient, self._update, dim=0).item()
            if math.isfinite(cosine):
                self._optimizer.param_groups[0]["lr"] *= 1.0 - self._strength * cosine
        self._optimizer.step()
        self._update = torch.cat([p.flatten() for p in self._parameters]) - before

    @property
    def rate(self) -> float:
        """Learning rate of the coming step."""
        return float(self._optimizer.param_groups[0]["lr"])


def hypergradient(parameters: list[Tensor], workload: Workload, start: Start) -> Hypergradient:
    """Descend on the rate as well."""
    return Hypergradient(_optimizer(parameters, workload, start), parameters)


def prodigy(parameters: list[Tensor], workload: Workload, start: Start) -> Scheduled:
    """Prodigy (Mishchenko & Defazio, 2306.06101) with the cosine annealing that its documentation recommends."""
    from prodigyopt import Prodigy

    optimizer = Prodigy(parameters, lr=start.factor, weight_decay=workload.task.optimizer.weight_decay)
    return _annealed(optimizer, workload.steps)


def d_adaptation(parameters: list[Tensor], workload: Workload, start: Start) -> Scheduled:
    """D-Adaptation (Defazio & Mishchenko, 2301.07733), SGD's or Adam's, under cosine annealing."""
    from dadaptation import DAdaptAdam, DAdaptSGD

    spec = workload.task.optimizer
    if spec.kind == "sgd":
        return _annealed(DAdaptSGD(parameters, start.factor, momentum=spec.momentum), workload.steps)
    adam = DAdaptAdam(parameters, start.factor, weight_decay=spec.weight_decay, decouple=spec.kind == "adamw")
    return _annealed(adam, workload.steps)


def _annealed(optimizer: Optimizer, steps: int) -> Scheduled:
    """Under cosine annealing; the rate that such an optimizer uses is ``d`` times its ``lr``."""
    return Scheduled(optimizer, CosineAnnealingLR(optimizer, steps), lambda: float(optimizer.param_groups[0]["d"]))


def schedule_free(parameters: list[Tensor], workload: Workload, start: Start) -> Scheduled:
    """Schedule-free SGD or AdamW (Defazio et al., 2405.15682), with the recommended warm-up: 5 % of the run."""
    from schedulefree import AdamWScheduleFree, SGDScheduleFree

    spec, warmup = workload.task.optimizer, round(0.05 * workload.steps)
    if spec.kind == "sgd":
        rate = 1.0 * start.factor
        return Scheduled(_training(SGDScheduleFree(parameters, rate, spec.momentum, warmup_steps=warmup)))
    rate, decay = 2.5e-3 * start.factor, spec.weight_decay
    return Scheduled(
        _training(AdamWScheduleFree(parameters, rate, weight_decay=decay, warmup_steps=warmup))
    )


def _training(optimizer: Any) -> Optimizer:
    """Such an optimizer must be told that training begins."""
    optimizer.train()
    trained: Optimizer = optimizer
    return trained
