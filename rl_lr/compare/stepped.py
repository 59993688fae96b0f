"""Arms that bring an optimizer of their own: one torch optimizer for each run, fed by the engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from rl_lr.compare.runs import LOOKS, Looks, Start, Track, drawn, starts
from rl_lr.compare.workloads import Workload
from rl_lr.engine import Engine
from rl_lr.rollout import split


class Stepper(Protocol):
    """The optimizer of one run, with whatever sets its rate."""

    def step(self, loss: float) -> None:
        """One update with the gradients that the parameters carry."""
        ...

    @property
    def rate(self) -> float:
        """Learning rate of the coming step."""
        ...


@runtime_checkable
class Averaging(Stepper, Protocol):
    """A stepper whose result is other weights than those that it trains."""

    def evaluating(self, on: bool) -> None:
        """Exchange the weights that are trained for those that are the result, or back."""
        ...


Recipe = Callable[[list[Tensor], Workload, Start], Stepper]
"""Builds the stepper of a run from its parameters, the workload and where it begins."""


@dataclass(frozen=True)
class Stepped:
    """A recipe on the engine: gradients are stacked, every run's update is the rival's own code."""

    name: str
    """As tables call it."""
    recipe: Recipe
    """Builds the stepper of each run."""
    factors: Sequence[float]
    """Base rates over the workload's centre; if it has a default rate of its own, over that."""
    own_rate: bool = False
    """Whether it has."""
    identity: str = ""
    """Versions and settings, beside the name."""

    @property
    def facts(self) -> list[Any]:
        """All that its runs depend on beside the workload."""
        return [self.name, self.identity, list(self.factors), LOOKS]

    def run(self, workload: Workload) -> list[Track]:
        """Every start of a workload."""
        begun, tracks = starts(workload, self.factors), list[Track]()
        for part in split(drawn(workload, begun)):
            tracks += self._run(workload, begun[len(tracks) : len(tracks) + part.runs])
        return tracks

    def rows(self, tracks: Sequence[Track]) -> dict[str, list[Track]]:
        """One line; with a rate of its own one at the default, and one for the best of its grid."""
        if not self.own_rate:
            return {self.name: list(tracks)}
        seeds = dict.fromkeys(one.seed for one in tracks)
        best = [
            min(
                (one for one in tracks if one.seed == seed),
                key=lambda one: (one.final != one.final, one.final),
            )
            for seed in seeds
        ]
        usual = {self.name: [one for one in tracks if one.factor == 1.0]}
        return (
            usual if len(self.factors) == 1 else usual | {f"{self.name}, best of {len(self.factors)}": best}
        )

    def _run(self, workload: Workload, begun: Sequence[Start]) -> list[Track]:
        engine, looks = Engine(workload.stepped, [start.seed for start in begun], traced=True), Looks()
        initial = engine.evaluate()
        own = [[p[run] for p in engine.parameters.values()] for run in range(engine.runs)]
        steppers = [self.recipe(mine, workload, start) for mine, start in zip(own, begun, strict=True)]
        look_at = {round(workload.steps * look / LOOKS) for look in range(1, LOOKS + 1)}
        for step in range(1, workload.steps + 1):
            losses, gradients = engine.gradients()
            for run, (loss, stepper) in enumerate(zip(losses.tolist(), steppers, strict=True)):
                for parameter, gradient in zip(own[run], gradients, strict=True):
                    parameter.grad = gradient[run]
                stepper.step(loss)
            if step in look_at:
                seen, apart = _look(engine, steppers, workload)
                looks.add(step, seen, torch.tensor([stepper.rate for stepper in steppers]))
        return looks.tracks(begun, initial, apart)


def _look(engine: Engine, steppers: Sequence[Stepper], workload: Workload) -> tuple[Tensor, Tensor]:
    """Losses on the fixed sample and on rows kept apart, of the weights that are the result."""
    averaging = [stepper for stepper in steppers if isinstance(stepper, Averaging)]
    for stepper in averaging:
        stepper.evaluating(True)
    if averaging:
        engine.calibrate()
    losses = engine.evaluate(), engine.evaluate(workload.stepped.held_out)
    for stepper in averaging:
        stepper.evaluating(False)
    return losses
