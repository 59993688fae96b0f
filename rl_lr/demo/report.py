"""The demo's table and figure."""

from pathlib import Path

import numpy as np
from rich.table import Table

from rl_lr.demo.fits import Fitted


def normalised_regret(one: Fitted, fits: list[Fitted]) -> float:
    """``(L - L_best) / (L_0 - L_best)`` with L_best the lowest final loss of any arm at any rate.

    0 is the best arm, 1 no better than the initial weights.
    """
    best = min(other.final for other in fits if other.workload == one.workload)
    return (one.final - best) / (one.initial - best)


def result_table(fits: list[Fitted]) -> Table:
    """Final held-out loss of each arm at each base rate, with its regret against the best arm."""
    factors = sorted({one.factor for one in fits})
    table = Table(title="Final held-out loss (regret against the best arm at any rate, % of the way down)")
    table.add_column("network")
    table.add_column("arm")
    for factor in factors:
        table.add_column(f"rate ×{factor:g}", justify="right")
    for workload in dict.fromkeys(one.workload for one in fits):
        rows = [one for one in fits if one.workload == workload]
        for arm in dict.fromkeys(one.arm for one in rows):
            cells = []
            for factor in factors:
                (one,) = [row for row in rows if row.arm == arm and row.factor == factor]
                regret = normalised_regret(one, fits)
                style = "green" if regret <= 0.01 else "yellow" if regret <= 0.1 else "red"
                cells.append(f"{one.final:.3f} [{style}]({100 * regret:.1f} %)[/{style}]")
            table.add_row(workload, arm, *cells)
        table.add_section()
    return table


def draw_figure(fits: list[Fitted], path: Path) -> None:
    """Training loss above, learning rate below; a column per network and base rate."""
    from matplotlib.figure import Figure

    workloads = list(dict.fromkeys(one.workload for one in fits))
    factors = sorted({one.factor for one in fits})
    arms = list(dict.fromkeys(one.arm for one in fits))
    columns = [(workload, factor) for workload in workloads for factor in factors]
    figure = Figure(figsize=(3.1 * len(columns), 6.4), layout="constrained")
    axes = figure.subplots(2, len(columns), sharex=True, squeeze=False)
    for column, (workload, factor) in enumerate(columns):
        top, bottom = axes[:, column]
        for index, arm in enumerate(arms):
            (one,) = [f for f in fits if (f.workload, f.factor, f.arm) == (workload, factor, arm)]
            style = {"color": f"C{index}", "linewidth": 2.0 if "policy" in arm else 1.2}
            top.plot(_smooth(one.losses), label=arm, **style)
            bottom.plot(one.rates, **style)
        top.set_title(f"{workload}\nstarted at ×{factor:g}")
        bottom.set_yscale("log")
        bottom.set_xlabel("optimizer step")
        top.set_ylim(bottom=0.0, top=1.1 * max(f.losses[0] for f in fits if f.workload == workload))
    for row, label in enumerate(("training loss (smoothed)", "learning rate")):
        axes[row, 0].set_ylabel(label)
    for left in range(0, len(columns), len(factors)):
        for axis in axes[1, left : left + len(factors)]:
            axis.set_ylim(1e-7, 1.5 * max(rate for one in fits for rate in one.rates))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(arms), frameon=False)
    figure.savefig(path, dpi=110)


def _smooth(losses: list[float], width: int = 15) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Trailing mean over up to ``width`` steps."""
    totals = np.concatenate([[0.0], np.cumsum(losses)])
    end = np.arange(1, len(totals))
    start = np.maximum(0, end - width)
    return np.asarray((totals[end] - totals[start]) / (end - start))
