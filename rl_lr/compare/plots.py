"""Figures of a comparison, as PNG."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rl_lr.compare.arms import REFERENCE_RUNS
from rl_lr.compare.comparison import Comparison
from rl_lr.compare.controlled import FACTORS

OURS, GREY = "#c1272d", "#9a9a9a"
OTHERS = ("C0", "C1", "C2", "black", "C4", "C5", "C6", "C7", "C8", "C9")
"""The usual colours less the red, which would be taken for ours."""
POLICIES = "rl-lr"
"""How the lines of policies and of their options begin."""
LEAST = 1e-4
"""Normalised regrets below this share of the way down are drawn as it: a logarithm has no zero."""


def draw(comparison: Comparison, out: Path) -> list[Path]:
    """Write ``profile.png``, ``base-rate.png`` and ``rates.png``."""
    figures = {
        "profile": _profile(comparison),
        "base-rate": _base_rate(comparison),
        "rates": _rates(comparison),
    }
    paths = []
    for name, figure in figures.items():
        paths.append(out / f"{name}.png")
        figure.savefig(paths[-1], dpi=130)
    return paths


def panels_of(names: Iterable[str]) -> dict[str, dict[str, dict[str, object]]]:
    """Titles of panels, their lines, and how these are drawn: ours on top of each, or nobody tells it from the others."""
    ours, *others = names
    own = [name for name in others if name.startswith(POLICIES)]
    rest = [name for name in others if name not in own]
    panels = {"controls, schedules and rivals": rest, "policies and options": own}
    return {title: _styles(ours, beside) for title, beside in panels.items() if beside}


def _styles(ours: str, others: Sequence[str]) -> dict[str, dict[str, object]]:
    """Ours bold, the others in colours of their own."""
    styles: dict[str, dict[str, object]] = {ours: {"color": OURS, "lw": 2.6, "zorder": 5}}
    for index, name in enumerate(others):
        around, color = divmod(index, len(OTHERS))
        styles[name] = {"color": OTHERS[color], "lw": 1.1, "ls": ("-", "--", ":")[around % 3]}
    return styles


def _profile(comparison: Comparison) -> Figure:
    """Shares of runs: that had reached the reference by a time, and that ended within a regret."""
    panels = panels_of(comparison.cells)
    figure = Figure(figsize=(11, 4.2 * len(panels)), layout="constrained")
    for (left, right), (title, styles) in zip(
        figure.subplots(len(panels), 2, squeeze=False), panels.items(), strict=True
    ):
        for name, style in styles.items():
            cells = comparison.cells[name]
            _share(left, [one.reached for one in cells], name, style)
            _share(right, [max(one.normalised, LEAST) for one in cells], name, style)
        left.set(xlim=(0, 1), xlabel="share τ of the horizon")
        left.set_ylabel("runs that had reached the reference's final loss")
        right.set(
            xscale="log", xlim=(LEAST, 1), xlabel="normalised regret τ", ylabel="runs that ended within τ"
        )
        for axes in (left, right):
            axes.set(ylim=(0, 1), title=title)
            axes.grid(alpha=0.3)
        right.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8, frameon=False)
    return figure


def _share(axes: Axes, values: Sequence[float], name: str, style: dict[str, object]) -> None:
    """The share of values at most τ, as τ grows."""
    ordered = np.sort(values)
    shares = np.arange(1, len(ordered) + 1) / len(ordered)
    edge = 2.0  # beyond both axes
    axes.step([0, *ordered, edge], [0, *shares, shares[-1]], where="post", label=name, **style)  # type: ignore[arg-type]


def _base_rate(comparison: Comparison) -> Figure:
    """Median normalised regret by how far off the base rate was."""
    cells = {
        name: found
        for name, found in comparison.cells.items()
        if {one.factor for one in found} == set(FACTORS)
    }
    panels = panels_of(cells)
    figure = Figure(figsize=(5.5 * len(panels), 5.4), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False).flat
    for axes, (title, styles) in zip(grid, panels.items(), strict=True):
        for name, style in styles.items():
            medians = [
                np.median([one.normalised for one in cells[name] if one.factor == factor])
                for factor in FACTORS
            ]
            axes.plot(FACTORS, np.maximum(medians, LEAST), marker="o", ms=3, label=name, **style)
        axes.axhline(0.01, color=GREY, lw=0.8, ls="--", label=f"1 % above the best of {REFERENCE_RUNS}")
        axes.set(xscale="log", yscale="log", xlabel="base rate over a usual one", title=title)
        axes.grid(alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=8, frameon=False)
    figure.axes[0].set_ylabel(f"median normalised regret (at least {LEAST:g})")
    return figure


def _rates(comparison: Comparison) -> Figure:
    """The rates that the first arm gave, from every base rate, beside the reference's, first seed only."""
    count = len(comparison.workloads)
    columns = min(4, count)
    figure = Figure(figsize=(3.1 * columns, 2.4 * -(-count // columns)), layout="constrained")
    grid = figure.subplots(-(-count // columns), columns, squeeze=False).flat
    ours = next(iter(comparison.rows.values()))
    for axes, workload, tracks, best in zip(
        grid, comparison.workloads, ours, comparison.references, strict=False
    ):
        for one in tracks:
            if one.seed == 0:
                axes.plot(one.steps, np.maximum(one.rates, 1e-9), color=OURS, lw=1.0, alpha=0.7)
        reference = best[0].track
        axes.plot(reference.steps, np.maximum(reference.rates, 1e-9), color="black", lw=1.4)
        highest = max(reference.rates)
        axes.set(yscale="log", ylim=(1e-4 * highest, 1e2 * highest))
        axes.set_title(workload.name, fontsize=8)
        axes.tick_params(labelsize=6)
    for axes in list(grid):
        axes.set_visible(False)
    figure.suptitle(
        f"learning rate by step: rl-lr from five base rates (red), best of {REFERENCE_RUNS} tuned runs (black)",
        fontsize=9,
    )
    return figure
