"""What else sets a rate: torch's own schedulers, hypergradient descent, and optimizers of other packages.

The packages are the optional extra ``rivals``; each is used as its documentation recommends.
"""

import math
from contextlib import redirect_stdout
from importlib.metadata import version
from io import StringIO
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
        Stepped(
            "LR finder + one-cycle", finder, (1.0,), own_rate=True, identity=version("pytorch-lightning")
        ),
        Stepped("Prodigy", prodigy, OWN_GRID, own_rate=True, identity=version("prodigyopt")),
        Stepped("D-Adaptation", d_adaptation, OWN_GRID, own_rate=True, identity=version("dadaptation")),
        Stepped("schedule-free", schedule_free, OWN_GRID, own_rate=True, identity=version("schedulefree")),
    ]


class Scheduled:
    """An optimizer under one of torch's schedulers.

    Args:
        optimizer: steps; what it really uses may be ``d`` times its ``lr``.
        scheduler: is stepped after it.
    """

    def __init__(self, optimizer: Optimizer, scheduler: LRScheduler) -> None:
        self._optimizer, self._scheduler = optimizer, scheduler

    def step(self, loss: float) -> None:
        """One update, then the scheduler's."""
        self._optimizer.step()
        self._scheduler.step()

    @property
    def rate(self) -> float:
        """Learning rate of the coming step."""
        group = self._optimizer.param_groups[0]
        return float(group["lr"]) * float(group.get("d", 1.0))


def _optimizer(parameters: list[Tensor], workload: Workload, start: Start) -> Optimizer:
    """The workload's own, at the rate that the run begins with."""
    spec = workload.stepped.optimizer
    return spec.build(parameters, spec.lr * start.factor)


def one_cycle(parameters: list[Tensor], workload: Workload, start: Start) -> Scheduled:
    """Smith's 1cycle (1708.07120) as torch has it, with the given rate as its peak."""
    optimizer = _optimizer(parameters, workload, start)
    peak = workload.stepped.optimizer.lr * start.factor
    return Scheduled(optimizer, OneCycleLR(optimizer, peak, total_steps=workload.steps + 1))


def finder(parameters: list[Tensor], workload: Workload, start: Start) -> Scheduled:
    """Lightning's learning-rate finder, then one cycle with what it suggests as the peak."""
    peak = found_rate(workload.stepped, start.seed)
    return one_cycle(parameters, workload, Start(peak / workload.stepped.optimizer.lr, start.seed))


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

    def __init__(self, optimizer: Optimizer, parameters: list[Tensor]) -> None:
        self._optimizer, self._parameters = optimizer, parameters
        self._update: Tensor | None = None

    def step(self, loss: float) -> None:
        """The rate's update, then the weights'."""
        before = torch.cat([p.flatten() for p in self._parameters])
        if self._update is not None:
            gradient = torch.cat([p.grad.flatten() for p in self._parameters if p.grad is not None])
            cosine = torch.nn.functional.cosine_similarity(gradient, self._update, dim=0).item()
            if math.isfinite(cosine):
                self._optimizer.param_groups[0]["lr"] *= 1.0 - 0.02 * cosine
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

    optimizer = Prodigy(parameters, start.factor, weight_decay=workload.stepped.optimizer.weight_decay)
    return Scheduled(optimizer, CosineAnnealingLR(optimizer, workload.steps))


def d_adaptation(parameters: list[Tensor], workload: Workload, start: Start) -> Scheduled:
    """D-Adaptation (Defazio & Mishchenko, 2301.07733), SGD's or Adam's, under cosine annealing."""
    from dadaptation import DAdaptAdam, DAdaptSGD

    spec, optimizer = workload.stepped.optimizer, None
    with redirect_stdout(StringIO()):  # it prints what weight decay it uses
        if spec.kind == "sgd":
            optimizer = DAdaptSGD(parameters, start.factor, spec.momentum, spec.weight_decay)
        else:
            decoupled = spec.kind == "adamw"
            optimizer = DAdaptAdam(
                parameters, start.factor, weight_decay=spec.weight_decay, decouple=decoupled
            )
    return Scheduled(optimizer, CosineAnnealingLR(optimizer, workload.steps))


class ScheduleFree:
    """A schedule-free optimizer, which trains other weights than it gives."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        optimizer.train()

    def step(self, loss: float) -> None:
        """One update."""
        self._optimizer.step()

    @property
    def rate(self) -> float:
        """Learning rate of the step made last, which its warm-up may hold back."""
        group = self._optimizer.param_groups[0]
        return float(group.get("scheduled_lr", group["lr"]))

    def evaluating(self, on: bool) -> None:
        """To the average, or back to what is trained."""
        switch = self._optimizer.eval if on else self._optimizer.train
        switch()


def schedule_free(parameters: list[Tensor], workload: Workload, start: Start) -> ScheduleFree:
    """Schedule-free SGD or AdamW (Defazio et al., 2405.15682), with the recommended warm-up: 5 % of the run."""
    from schedulefree import AdamWScheduleFree, SGDScheduleFree

    spec, warmup = workload.stepped.optimizer, round(0.05 * workload.steps)
    decay = spec.weight_decay
    if spec.kind == "sgd":
        return ScheduleFree(SGDScheduleFree(parameters, 1.0 * start.factor, spec.momentum, decay, warmup))
    return ScheduleFree(
        AdamWScheduleFree(parameters, 2.5e-3 * start.factor, weight_decay=decay, warmup_steps=warmup)
    )
