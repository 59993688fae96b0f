"""Runs on the engine under whatever sets their rates, and what is kept of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rl_lr.compare.workloads import Workload
from rl_lr.config import ControlConfig
from rl_lr.rollout import Draw, Rollout, split
from rl_lr.schedules import BaseSchedule


class Pilot(Protocol):
    """Sets the rates of runs: a policy, or what stands in for one. A new one flies every group."""

    def act(self, signals: Tensor) -> Tensor:
        """Actions ``[runs]`` for the signals of a decision, ``[runs, NUM_SIGNALS]``."""
        ...


@dataclass(frozen=True)
class Track:
    """What one run did."""

    factor: float
    """Base rate over the workload's centre."""
    seed: int
    """Of initial weights and mini-batches."""
    initial: float
    """Loss of the initial weights on the fixed sample."""
    final: float
    """Loss at the end on the fixed sample; NaN if the run was lost."""
    held_out: float
    """Loss at the end on rows that no run trained on."""
    steps: tuple[int, ...]
    """When the loss was looked at in between."""
    losses: tuple[float, ...]
    """On the fixed sample."""
    rates: tuple[float, ...]
    """Learning rate of the step that followed each look."""


def fly(
    workload: Workload,
    factors: Sequence[float],
    pilot: Pilot,
    schedule: BaseSchedule = "cosine",
    control: ControlConfig | None = None,
) -> list[Track]:
    """Runs of a workload from every base rate and seed, in this order, under a pilot.

    Args:
        workload: what is run.
        factors: base rates over the centre.
        pilot: acts at every decision.
        schedule: base schedule.
        control: constants of the control law.
    """
    starts = [(factor, seed) for factor in factors for seed in range(workload.seeds)]
    centre = workload.task.optimizer.lr
    drawn = Draw(
        workload.task,
        tuple(seed for _, seed in starts),
        tuple(centre * factor for factor, _ in starts),
        workload.steps,
        schedule,
    )
    rollouts = [Rollout(part, control) for part in split(drawn)]
    steps: list[int] = []
    seen: list[tuple[Tensor, Tensor]] = []
    while not rollouts[0].done:
        actions = pilot.act(torch.cat([part.signals() for part in rollouts]))
        for part, own in zip(rollouts, actions.split([part.engine.runs for part in rollouts]), strict=True):
            part.advance(own)
        steps.append(rollouts[0].controller.step)
        seen.append((_losses(rollouts), _rates(rollouts)))
    losses, rates = (torch.stack(columns, dim=1).tolist() for columns in zip(*seen, strict=True))
    held_out = torch.cat([part.engine.evaluate(workload.task.held_out) for part in rollouts]).tolist()
    initial = torch.cat([part.initial_loss for part in rollouts]).tolist()
    return [
        Track(
            factor,
            seed,
            initial[k],
            losses[k][-1],
            held_out[k],
            tuple(steps),
            tuple(losses[k]),
            tuple(rates[k]),
        )
        for k, (factor, seed) in enumerate(starts)
    ]


def _losses(rollouts: list[Rollout]) -> Tensor:
    return torch.cat([part.engine.evaluate() for part in rollouts]).double()


def _rates(rollouts: list[Rollout]) -> Tensor:
    """Of the coming step."""
    return torch.cat([part.base_lrs * part.controller.rates() for part in rollouts])
