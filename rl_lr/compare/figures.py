"""What a comparison says: each run against the reference of its workload and seed, and their summary."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import bootstrap, trim_mean

from rl_lr.compare.runs import Track
from rl_lr.reward import score


@dataclass(frozen=True)
class Cell:
    """One run of one arm."""

    workload: str
    """Its name."""
    arm: str
    """Its name."""
    factor: float
    """Base rate over the workload's centre."""
    seed: int
    """Of initial weights and mini-batches."""
    regret: float
    """Nats of the floored loss above the reference; below zero is better than it."""
    normalised: float
    """(L - L_ref) / (L_0 - L_ref): 0 is the reference, 1 the initial loss."""
    held_out: float
    """The same of the loss on rows that no run trained on."""
    reached: float
    """Share of the horizon at which the reference's final loss was reached; infinite if never."""
    lost: bool
    """Whether the run diverged: its loss is not finite, or above where it began."""


@dataclass(frozen=True)
class Reference:
    """The best of the tuned grid for one seed."""

    final: float
    """Loss on the fixed sample."""
    held_out: float
    """Loss on rows that no run trained on, of the run that is best on them."""

    @classmethod
    def of(cls, tracks: Sequence[Track]) -> "Reference":
        """Chosen among runs of the same seed, for each of the two losses by itself."""
        finite = [t for t in tracks if math.isfinite(t.final)]
        return cls(min(t.final for t in finite), min(t.held_out for t in finite if math.isfinite(t.held_out)))


def cell(workload: str, arm: str, track: Track, reference: Reference, horizon: int) -> Cell:
    """A run against the reference of its seed."""
    losses, initial = torch.tensor([track.final, reference.final]).double(), torch.tensor(track.initial)
    ours, theirs = score(losses, initial.double()).tolist()
    reached = [s for s, loss in zip(track.steps, track.losses, strict=True) if loss <= reference.final]
    return Cell(
        workload=workload,
        arm=arm,
        factor=track.factor,
        seed=track.seed,
        regret=ours - theirs,
        normalised=_normalised(track.final, reference.final, track.initial),
        held_out=_normalised(track.held_out, reference.held_out, track.initial),
        reached=reached[0] / horizon if reached else math.inf,
        lost=not track.final <= track.initial,
    )


def _normalised(loss: float, best: float, initial: float) -> float:
    return (loss - best) / (initial - best) if math.isfinite(loss) else math.inf


@dataclass(frozen=True)
class Summary:
    """An arm over all cells."""

    arm: str
    """Its name."""
    median: float
    """Regret, nats."""
    middle: float
    """Interquartile mean of the regret, nats."""
    low: float
    """Lower end of its 95 % bootstrap interval."""
    high: float
    """Upper end."""
    at_reference: float
    """Share of cells with a regret of at most 0.01 nats."""
    within: float
    """Share of cells with at most 1 % normalised regret."""
    worst: float
    """Largest normalised regret."""
    reached: float
    """Median share of the horizon until the reference's final loss."""
    lost: int
    """Runs that diverged."""


def summary(arm: str, cells: Sequence[Cell]) -> Summary:
    """The figures of an arm over its cells."""
    regret = np.array([one.regret for one in cells])
    normalised = np.array([one.normalised for one in cells])

    def middle(values: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return np.asarray(trim_mean(values, 0.25, axis=axis))

    interval = bootstrap((regret,), middle, n_resamples=2000, method="percentile", rng=0).confidence_interval
    return Summary(
        arm=arm,
        median=float(np.median(regret)),
        middle=float(middle(regret)),
        low=float(interval.low),
        high=float(interval.high),
        at_reference=float((regret <= 0.01).mean()),
        within=float((normalised <= 0.01).mean()),
        worst=float(normalised.max()),
        reached=float(np.median([one.reached for one in cells])),
        lost=sum(one.lost for one in cells),
    )
