"""What a learned optimizer is compared with, on the same seeds: tuned optimizers, and the policy of reinforcement learning."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rl_lr.controller import LAW
from rl_lr.coordinate.policy import CoordinatePolicy
from rl_lr.coordinate.unroll import Runs
from rl_lr.engine import Engine
from rl_lr.optimizers import OptimizerSpec
from rl_lr.policy import Policy
from rl_lr.rollout import Draw, Rollout
from rl_lr.tasks.tensors import TensorTask

RATES = 15
"""Rates that a rival is tuned over, log-spaced."""
_LOOKS = 25  # times that a run is measured on its way
_TRACE_FROM = 50  # steps from which tracing saves more time than it takes

TUNED = {
    "SGD": OptimizerSpec("sgd", momentum=0.0),
    "momentum": OptimizerSpec("sgd", momentum=0.9),
    "RMSprop": OptimizerSpec("rmsprop", momentum=0.0, betas=(0.9, 0.99)),
    "Adam": OptimizerSpec("adam"),
}
"""The rivals, with the constants that torch begins with."""

FIRST_SEED = 1000
"""Of the runs that are compared; those below 100 were looked at while the shipped policies were trained."""


@dataclass(frozen=True)
class Problem:
    """What all arms are run on."""

    name: str
    """As tables call it."""
    task: TensorTask
    """What is trained."""
    seeds: int
    """Runs of every arm, of seeds from :data:`FIRST_SEED` on."""
    steps: int
    """Of each run."""
    policy: str
    """The coordinate-wise policy, by name or folder."""
    must: bool
    """Whether the learned optimizer is to be below every rival."""
    grids: dict[str, tuple[float, float]]
    """Lowest and highest rate of each rival."""

    @property
    def own_seeds(self) -> list[int]:
        """Initial weights, mini-batches, and the quadratic, of each run."""
        return list(range(FIRST_SEED, FIRST_SEED + self.seeds))

    @property
    def looks(self) -> list[int]:
        """Steps after which runs are measured; the last is the end."""
        every = max(1, self.steps // _LOOKS)
        return [*range(every, self.steps, every), self.steps]


@dataclass(frozen=True)
class Outcome:
    """What the runs of an arm came to."""

    arm: str
    """As tables call it."""
    setting: str
    """What it was run with: the rate that was best, or the policy."""
    inside: bool
    """False if the best rate is at an end of the grid."""
    final: tuple[float, ...]
    """Loss at the end on the fixed sample, of each seed."""
    held_out: tuple[float, ...]
    """The same on rows that no run trains on; empty if the task has none."""
    steps: tuple[int, ...]
    """When runs were measured."""
    curve: tuple[float, ...]
    """Mean loss over seeds then."""


def learned(problem: Problem) -> Outcome:
    """Runs under the coordinate-wise policy."""
    policy = CoordinatePolicy.load(problem.policy)
    engine, curve, begun = Engine(problem.task, problem.own_seeds), [], 0
    runs = Runs(engine, policy.network)
    with torch.no_grad():
        for look in problem.looks:
            runs.unroll(look - begun)
            curve.append(float(engine.evaluate().mean()))
            begun = look
    return _outcome(
        problem,
        "learned",
        f"policy {problem.policy}",
        True,
        engine.evaluate(),
        _apart(problem, engine),
        curve,
    )


def tuned(problem: Problem, name: str) -> Outcome:
    """Runs at every rate of a grid; the rate of the lowest mean final loss is kept, chosen on these very seeds."""
    low, high = problem.grids[name]
    rates = torch.logspace(math.log10(low), math.log10(high), RATES, dtype=torch.float64)
    task, seeds = replace(problem.task, optimizer=TUNED[name]), problem.own_seeds
    engine = Engine(task, seeds * RATES, traced=problem.steps >= _TRACE_FROM)
    lr, curves = rates.float().repeat_interleave(problem.seeds), []
    looks = set(problem.looks)
    for step in range(1, problem.steps + 1):
        engine.step(lr)
        if step in looks:
            curves.append(engine.evaluate().view(RATES, -1).mean(dim=1))
    best = int(curves[-1].nan_to_num(math.inf).argmin())
    own = slice(best * problem.seeds, (best + 1) * problem.seeds)
    held_out = _apart(problem, engine)
    setting = f"lr {rates[best]:.3g}, {best + 1} of {RATES} from {low:g} to {high:g}"
    return _outcome(
        problem,
        name,
        setting,
        0 < best < RATES - 1,
        engine.evaluate()[own],
        None if held_out is None else held_out[own],
        [float(one[best]) for one in curves],
    )


def controlled(problem: Problem, name: str, spec: OptimizerSpec, factor: float) -> Outcome:
    """Runs under the default policy, which sets one rate, from a base rate that is off by a factor."""
    policy, task = Policy.load(), replace(problem.task, optimizer=spec)
    rate = factor * spec.lr
    drawn = Draw(task, tuple(problem.own_seeds), (rate,) * problem.seeds, problem.steps)
    rollout, steps, curve = Rollout(drawn, policy.control), [], []
    while not rollout.done:
        rollout.advance(policy.act(rollout.signals()))
        steps.append(rollout.step)
        curve.append(float(rollout.look()[0].mean()))
    held_out = rollout.held_out_loss() if problem.task.held_out else None
    found = _outcome(problem, name, f"base rate {rate:g}", True, rollout.engine.evaluate(), held_out, curve)
    return replace(found, steps=tuple(steps))


def _apart(problem: Problem, engine: Engine) -> Tensor | None:
    return engine.evaluate(problem.task.held_out) if problem.task.held_out else None


def _outcome(
    problem: Problem,
    arm: str,
    setting: str,
    inside: bool,
    final: Tensor,
    held_out: Tensor | None,
    curve: Sequence[float],
) -> Outcome:
    apart = () if held_out is None else _short(held_out.tolist())
    return Outcome(arm, setting, inside, _short(final.tolist()), apart, tuple(problem.looks), _short(curve))


def _short(values: Sequence[float]) -> tuple[float, ...]:
    """As many digits as figures need, as JSON can write them: what is not finite is lost, 1e30."""
    return tuple(float(f"{one:.5g}") if math.isfinite(one) else LOST for one in values)


LOST = 1e30
"""Stands for a loss that is not finite."""


def facts(problem: Problem, arm: str) -> list[Any]:
    """What the runs of an arm on a problem depend on."""
    if arm == "learned":
        own: list[Any] = [CoordinatePolicy.load(problem.policy).sha256]
    else:
        own = list(problem.grids[arm]) if arm in TUNED else [Policy.load().sha256, LAW]
    return [arm, problem.name, problem.task.name, problem.own_seeds[0], problem.seeds, problem.steps, own]
