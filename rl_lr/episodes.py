"""Episodes: whole runs of a group, played anywhere to the same bits.

What a worker returns is a pure function of a plan and an order, so it does not matter who plays
an episode, when, or how often: merged in their order, episodes make the same training.
"""

import gc
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_lr.config import ControlConfig, DrawConfig
from rl_lr.exploration import Exploration
from rl_lr.groups import Group, begin
from rl_lr.memory import is_out_of_memory, too_large
from rl_lr.policy import Policy
from rl_lr.randomness import seed_all
from rl_lr.reward import paired_rewards, score
from rl_lr.rollout import Draw, draw, split
from rl_lr.tasks.families import mixture
from rl_lr.tasks.ingredients import Weighted
from rl_lr.tasks.task import Fit

Array = NDArray[np.float32]

VALIDATION = 2**20
"""Stands where an iteration's number would in the seeds of runs kept apart: none reaches it."""


@dataclass(frozen=True)
class Plan:
    """What all episodes of a training share."""

    families: Weighted
    """What tasks are drawn from."""
    draw: DrawConfig
    """How runs are drawn."""
    control: ControlConfig
    """Constants of the control law."""
    group_size: int
    """Runs of one task."""
    seed: int
    """Of everything drawn."""
    averaged: bool = False
    """Whether the result of a run is the average of its weights; that of a fit never is."""
    portable: bool = False
    """Whether whoever plays it computes as any x86-64 processor with AVX2."""

    def group(self, *place: int) -> tuple[Draw, np.random.Generator]:
        """The group that belongs to a place in the training, and the generator that drew it."""
        rng = np.random.default_rng([self.seed, *place])
        drawn = draw(lambda rng: mixture(rng, self.families), self.group_size, rng, self.draw)
        seed_all(int(rng.integers(2**31)))
        return drawn, rng

    def begin(self, drawn: Draw, control: ControlConfig) -> Group:
        """Runs of a draw, before their first decision."""
        return begin(drawn, control, average=self.averaged and not isinstance(drawn.task, Fit))


@dataclass(frozen=True)
class Order:
    """One episode: group number ``group`` of an iteration, under a policy that explores."""

    policy: Policy
    """What acts."""
    exploration: Exploration
    """How it strays."""
    iteration: int
    """Iterations done before."""
    group: int
    """From 0."""


@dataclass(frozen=True)
class Episode:
    """What the learner learns from: a group from its first decision to its last."""

    observations: Array
    """[decisions, runs, NUM_SIGNALS]."""
    actions: Array
    """[decisions, runs], as the exploration gave them."""
    rewards: Array
    """[decisions, runs], :func:`rl_lr.reward.paired_rewards`."""
    log_base_lr: NDArray[np.float64]
    """[runs]."""
    initial_loss: NDArray[np.float64]
    """[runs]."""
    final_loss: NDArray[np.float64]
    """[runs]."""
    steps: int
    """Optimizer steps that each run made."""


def joined(episodes: Sequence[Episode]) -> tuple[Array, Array, Array]:
    """Observations ``[decisions, runs, signals]``, actions and rewards ``[decisions, runs]`` of all of them."""
    observations, actions, rewards = (
        np.concatenate([getattr(episode, name) for episode in episodes], axis=1)
        for name in ("observations", "actions", "rewards")
    )
    return observations, actions, rewards


def play(plan: Plan, order: Order) -> Episode:
    """Play an episode, straying by what the group's generator draws."""
    drawn, rng = plan.group(order.iteration, order.group)
    strays = order.exploration.draw(rng, plan.control.decision_count, plan.group_size)
    played = _explore(plan, split(drawn), order, strays)
    initial, final, observations, actions, rewards = (torch.cat(rows) for rows in zip(*played, strict=True))
    return Episode(
        observations.movedim(0, 1).numpy(),
        actions.T.numpy(),
        paired_rewards(rewards.T, final, initial).float().numpy(),
        np.log(drawn.base_lrs),
        initial.numpy(),
        final.numpy(),
        drawn.total_steps,
    )


@dataclass(frozen=True)
class Trial:
    """One group of the runs kept apart from training, under a policy that does not explore."""

    policy: Policy
    """What acts, and its control constants."""
    group: int
    """From 0."""


def final_scores(plan: Plan, trial: Trial) -> NDArray[np.float64]:
    """Score of every run of a group at its end, ``[runs]``."""
    drawn, _ = plan.group(VALIDATION, trial.group)
    with closing(plan.begin(drawn, trial.policy.control)) as group:
        while not group.done:
            group.advance(trial.policy.act(group.signals()))
        assert group.final_loss is not None
        return score(group.final_loss, group.initial_loss).numpy()


def _explore(plan: Plan, parts: list[Draw], order: Order, strays: Tensor) -> list[tuple[Tensor, ...]]:
    """Initial and final losses, observations, actions and rewards of each part, ``[runs, ...]`` each.

    Parts are played one after the other; one that does not fit into memory, in halves.
    """
    played = []
    for part, own in zip(parts, strays.split([part.runs for part in parts], dim=1), strict=True):
        columns = _explore_if_it_fits(plan, part, order, own)
        if columns is not None:
            played.append(columns)
            continue
        warnings.warn(
            f"{part.runs} runs of task {part.task.name!r} do not fit into memory at once: they are played in halves, "
            f"one after the other.",
            stacklevel=3,
        )
        played += _explore(plan, part.parts((part.runs + 1) // 2), order, own)
    return played


def _explore_if_it_fits(plan: Plan, drawn: Draw, order: Order, strays: Tensor) -> tuple[Tensor, ...] | None:
    """None if memory does not suffice for these runs at once; on return it is free again."""
    try:
        return _explore_at_once(plan, drawn, order, strays)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if drawn.runs == 1:
            raise too_large(drawn.task) from error
    return None


def _explore_at_once(plan: Plan, drawn: Draw, order: Order, strays: Tensor) -> tuple[Tensor, ...]:
    gc.collect()  # traced graphs refer to themselves; the memory of the last ones is wanted now
    observations, actions, rewards = [], [], []
    with closing(plan.begin(drawn, plan.control)) as group:
        for row in strays:
            observations.append(group.signals())
            actions.append(order.exploration.act(order.policy, observations[-1], row))
            rewards.append(group.advance(actions[-1]))
        assert group.final_loss is not None
        stacked = (torch.stack(rows, dim=1) for rows in (observations, actions, rewards))
        return (group.initial_loss, group.final_loss, *stacked)
