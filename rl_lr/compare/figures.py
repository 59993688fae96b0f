"""What a comparison says: each run against the reference of its workload and seed, and their summaries."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import bootstrap

from rl_lr.compare.runs import Track
from rl_lr.reward import score

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One run of one arm."""

    workload: str
    """Its name."""
    arm: str
    """Its name."""
    factor: float
    """Base rate over the workload's centre, or over the arm's own default."""
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

    track: Track
    """The run whose loss on the fixed sample is lowest at its end."""
    held_out: float
    """Loss on rows that no run trained on, of the run that is best on them."""

    @classmethod
    def of(cls, tracks: Sequence[Track]) -> "Reference":
        """Chosen among runs of the same seed, for each of the two losses by itself.

        Raises:
            ValueError: if none of them has a finite loss at its end.
        """
        finite = [t for t in tracks if math.isfinite(t.final)]
        if not finite:
            raise ValueError("All tuned runs of a workload diverged: there is nothing to compare with.")
        best = min(finite, key=lambda t: t.final)
        return cls(best, min(t.held_out for t in tracks if math.isfinite(t.held_out)))


def cell(workload: str, arm: str, track: Track, reference: Reference, horizon: int) -> Cell:
    """A run against the reference of its seed."""
    best = reference.track.final
    losses, initial = torch.tensor([track.final, best]).double(), torch.tensor(track.initial)
    ours, theirs = score(losses, initial.double()).tolist()
    losses_seen = (*track.losses[:-1], track.final)  # as a curve they are rounded
    reached = [step for step, loss in zip(track.steps, losses_seen, strict=True) if loss <= best]
    return Cell(
        workload=workload,
        arm=arm,
        factor=track.factor,
        seed=track.seed,
        regret=ours - theirs,
        normalised=_normalised(track.final, best, track.initial),
        held_out=_normalised(track.held_out, reference.held_out, track.initial),
        reached=reached[0] / horizon if reached else math.inf,
        lost=not track.final <= track.initial,
    )


def _normalised(loss: float, best: float, initial: float) -> float:
    if not math.isfinite(loss):
        return math.inf
    if initial == best:  # nothing was learned by any tuned run
        return 0.0 if loss <= best else math.inf
    return (loss - best) / (initial - best)


@dataclass(frozen=True)
class Summary:
    """An arm over all cells."""

    arm: str
    """Its name."""
    cells: int
    """How many."""
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
    held_out: float
    """Median of the same on rows that no run trained on."""
    reached: float
    """Median share of the horizon until the reference's final loss."""
    lost: int
    """Runs that diverged."""


def summary(arm: str, cells: Sequence[Cell]) -> Summary:
    """The figures of an arm over its cells."""
    regret = np.array([one.regret for one in cells])
    normalised = np.array([one.normalised for one in cells])
    low, high = _interval(regret, [one.workload for one in cells])
    return Summary(
        arm=arm,
        cells=len(cells),
        median=float(np.median(regret)),
        middle=_middle(regret),
        low=low,
        high=high,
        at_reference=float((regret <= 0.01).mean()),
        within=float((normalised <= 0.01).mean()),
        worst=float(normalised.max()),
        held_out=float(np.median([one.held_out for one in cells])),
        reached=float(np.median([one.reached for one in cells])),
        lost=sum(one.lost for one in cells),
    )


@dataclass(frozen=True)
class Duel:
    """The first arm against another one, run by run from the same start."""

    arm: str
    """The other's name."""
    lower: float
    """Share of pairs in which the first arm ends lower."""
    advantage: float
    """Interquartile mean of how much lower, nats of the floored loss."""
    low: float
    """Lower end of its 95 % bootstrap interval; above zero the advantage is more than chance."""
    high: float
    """Upper end."""


def duel(ours: Sequence[Cell], theirs: Sequence[Cell]) -> Duel:
    """Pairs share workload, seed and base rate; an arm without base rates meets every run of ours."""
    rates = {one.factor for one in ours} == {one.factor for one in theirs}
    other = {(one.workload, one.seed, one.factor if rates else 0.0): one for one in theirs}
    gaps = np.array(
        [other[one.workload, one.seed, one.factor if rates else 0.0].regret - one.regret for one in ours]
    )
    low, high = _interval(gaps, [one.workload for one in ours])
    return Duel(theirs[0].arm, float((gaps > 0).mean()), _middle(gaps), low, high)


def _middle(values: Floats) -> float:
    """Mean of the middle half; :func:`scipy.stats.trim_mean` by hand, whose call alone takes far longer."""
    beside = len(values) // 4
    return float(np.sort(values)[beside : len(values) - beside].mean())


def _interval(values: Floats, workloads: Sequence[str]) -> tuple[float, float]:
    """95 % bootstrap interval of the interquartile mean; workloads are drawn, with all their cells.

    Cells of a workload resemble each other: to draw them one by one would promise too much.
    """
    names = np.array(workloads)
    groups = [values[names == name] for name in dict.fromkeys(workloads)]
    if len(groups) < 2:
        return math.nan, math.nan
    statistic: Callable[[NDArray[np.int64]], float] = lambda drawn: _middle(
        np.concatenate([groups[k] for k in drawn])
    )
    found = bootstrap(
        (np.arange(len(groups)),), statistic, vectorized=False, n_resamples=2000, method="percentile", rng=0
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
