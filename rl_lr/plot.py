"""Pictures of a run: what its TensorBoard logs hold, as a matplotlib figure."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

OURS, GREY, OTHER = "#c1272d", "#9a9a9a", "#1f4e79"


@dataclass
class Trace:
    """A run, decision by decision."""

    steps: list[int] = field(default_factory=list)
    """The Trainer's optimizer steps before each decision."""
    loss: list[float] = field(default_factory=list)
    """log10 of the mean training loss since the decision before."""
    rate: list[float] = field(default_factory=list)
    """log10 of the rate of the coming step."""
    schedule: list[float] = field(default_factory=list)
    """log10 of what the base schedule alone would give."""
    offset: list[float] = field(default_factory=list)
    """o, in nats."""
    bound: float = math.nan
    """B, the largest offset, in nats."""
    events: list[int] = field(default_factory=list)
    """Times that the guard cut the rate or put weights back, so far."""

    def add(self, step: int, values: dict[str, float]) -> None:
        """Append a decision; what is missing is NaN."""
        self.steps.append(step)
        for name in ("loss", "rate", "schedule", "offset"):
            getattr(self, name).append(values.get(name, math.nan))
        self.events.append(int(values.get("events", 0.0)))


def read(log_dir: "str | Path", prefix: str = "convergence") -> Trace:
    """What a fit with :class:`rl_lr.callbacks.ConvergenceBoard` left in a log folder.

    Args:
        log_dir: of one run, such as ``trainer.log_dir``.
        prefix: of its tags: ``"convergence"``, with several optimizers ``"convergence/<name>"``.

    Raises:
        ValueError: if there are no such logs.
    """
    events = EventAccumulator(str(log_dir), size_guidance={"scalars": 0})
    present = set(events.Reload().Tags()["scalars"]) if Path(log_dir).is_dir() else set()
    if f"{prefix}/loss" not in present:
        raise ValueError(
            f"{log_dir} holds no scalars {prefix}/loss: give the folder of one run, logged with "
            f"ConvergenceBoard() among the Trainer's callbacks."
        )
    trace = Trace()
    by_step: dict[int, dict[str, float]] = {}
    for name in ("loss", "rate", "schedule", "offset", "events", "bound"):
        for one in events.Scalars(f"{prefix}/{name}") if f"{prefix}/{name}" in present else []:
            by_step.setdefault(one.step, {})[name] = one.value
    for step in sorted(by_step):
        trace.add(step, by_step[step])
        trace.bound = by_step[step].get("bound", trace.bound)
    return trace


def run(log_dir: "str | Path", baseline: "str | Path | None" = None, prefix: str = "convergence") -> Figure:
    """Loss, rate and offset of a fit on one time axis.

    Args:
        log_dir: its log folder.
        baseline: log folder of another fit whose loss and rate are drawn beside it, such as the base
            schedule's own.
        prefix: of the tags; of one of several optimizers ``convergence/`` and its name.

    Raises:
        ValueError: if a folder holds no such logs.
    """
    return draw(read(log_dir, prefix), None if baseline is None else read(baseline, prefix))


def draw(trace: Trace, baseline: Trace | None = None) -> Figure:
    """The picture of a trace, and beside it that of a baseline."""
    figure = Figure(figsize=(5.5, 6.0), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    _curve(top, trace.steps, trace.loss, OURS, "this run")
    _curve(middle, trace.steps, trace.rate, OURS, "rate")
    _curve(middle, trace.steps, trace.schedule, GREY, "base schedule alone")
    if baseline is not None:
        _curve(top, baseline.steps, baseline.loss, OTHER, "baseline")
        _curve(middle, baseline.steps, baseline.rate, OTHER, "baseline")
    bottom.axhline(0.0, color=GREY, lw=0.8)
    bottom.plot(trace.steps, trace.offset, color=OURS, lw=1.6)
    if math.isfinite(trace.bound) and trace.steps:
        bottom.set_ylim(-1.05 * trace.bound, 1.05 * trace.bound)
    _mark_events(trace, (top, middle, bottom))
    for axes, label in ((top, "training loss"), (middle, "learning rate"), (bottom, "offset, nats")):
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    for axes in (top, middle):
        axes.set_yscale("log")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, frameon=False)
    bottom.set_xlabel("optimizer step")
    return figure


def _curve(axes: Axes, steps: list[int], log10: list[float], color: str, label: str) -> None:
    """A curve given by its logarithms; one without a value is left out."""
    values = 10.0 ** np.array(log10, dtype=float)
    if np.isfinite(values).any():
        axes.plot(steps, values, color=color, lw=1.6, label=label)


def _mark_events(trace: Trace, all_axes: tuple[Axes, ...]) -> None:
    """A line where the guard acted."""
    for index in range(1, len(trace.steps)):
        if trace.events[index] > trace.events[index - 1]:
            for axes in all_axes:
                axes.axvline(trace.steps[index], color="#e8a33d", lw=1.0, ls="--", zorder=0)
