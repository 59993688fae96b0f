"""Figures of a comparison, as PNG."""

from collections.abc import Sequence
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


def _lines(comparison: Comparison) -> list[tuple[str, dict[str, object]]]:
    """The lines by name with how they are drawn: ours on top, the others in colours of their own."""
    names = list(comparison.cells)
    styles: list[dict[str, object]] = [{"color": OURS, "lw": 2.6, "zorder": 5}]
    for index in range(len(names) - 1):
        around, color = divmod(index, len(OTHERS))
        styles.append({"color": OTHERS[color], "lw": 1.1, "ls": ("-", "--", ":")[around % 3]})
    return list(zip(names, styles, strict=True))


def _profile(comparison: Comparison) -> Figure:
    """Shares of runs: that had reached the reference by a time, and that ended within a regret."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, style in _lines(comparison):
        cells = comparison.cells[name]
        _share(left, [one.reached for one in cells], name, style)
        _share(right, [max(one.normalised, LEAST) for one in cells], name, style)
    left.set(
        xlim=(0, 1),
        xlabel="share τ of the horizon",
        ylabel="runs that had reached the reference's final loss",
    )
    right.set(xscale="log", xlim=(LEAST, 1), xlabel="normalised regret τ", ylabel="runs that ended within τ")
    for axes in (left, right):
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize=7, frameon=False)
    return figure


def _share(axes: Axes, values: Sequence[float], name: str, style: dict[str, object]) -> None:
    """The share of values at most τ, as τ grows."""
    ordered = np.sort(values)
    shares = np.arange(1, len(ordered) + 1) / len(ordered)
    edge = 2.0  # beyond both axes
    axes.step([0, *ordered, edge], [0, *shares, shares[-1]], where="post", label=name, **style)  # type: ignore[arg-type]


def _base_rate(comparison: Comparison) -> Figure:
    """Median normalised regret by how far off the base rate was."""
    figure = Figure(figsize=(8.2, 4.6), layout="constrained")
    axes = figure.subplots()
    for name, style in _lines(comparison):
        cells = comparison.cells[name]
        if {one.factor for one in cells} != set(FACTORS):
            continue
        medians = [np.median([one.normalised for one in cells if one.factor == factor]) for factor in FACTORS]
        axes.plot(FACTORS, np.maximum(medians, LEAST), marker="o", ms=3, label=name, **style)  # type: ignore[arg-type]
    axes.axhline(0.01, color=GREY, lw=0.8, ls="--")
    label = f"within 1 % of the best of {REFERENCE_RUNS} tuned runs"
    axes.annotate(label, (FACTORS[-1], 0.0085), ha="right", va="top", fontsize=8, color=GREY)
    axes.set(xscale="log", yscale="log", xlabel="base rate over a usual one")
    axes.set_ylabel(f"median normalised regret (at least {LEAST:g})")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
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
