"""The comparison of learned steps with tuned optimizers as a figure."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rl_lr.coordinate.arms import LOST

if TYPE_CHECKING:
    from rl_lr.coordinate.measure import Results, Row

OURS, UNDER_ADAM, UNDER_MOMENTUM = "#c1272d", "#9a9a9a", "#c9b27a"
_DASHES = {"×0.01": ":", "×1": "--", "×100": "-."}
_RIVALS = {"SGD": "C0", "momentum": "C1", "RMSprop": "C2", "Adam": "C4"}
_COLUMNS = 3


def draw(results: "Results", path: Path) -> None:
    """Mean loss by step of every arm, a panel for each problem."""
    height = -(-len(results) // _COLUMNS)
    figure = Figure(figsize=(4.2 * _COLUMNS, 3.3 * height), layout="constrained")
    grid = list(figure.subplots(height, _COLUMNS, squeeze=False).flat)
    for axes in grid:
        axes.set_visible(False)
    for axes, (problem, rows) in zip(grid, results, strict=False):
        axes.set_visible(True)
        axes.set(yscale="log", xlabel="step", ylabel="mean loss", title=problem.name)
        _panel(axes, rows)
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncol=6, fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def _panel(axes: Axes, rows: "list[Row]") -> None:
    """The curves of a problem; what is far above the highest start is left out."""
    curves = {row.outcome.arm: [x for x in row.outcome.curve if x < LOST] for row in rows}
    for row in rows:
        curve = curves[row.outcome.arm]
        axes.plot(row.outcome.steps[: len(curve)], curve, label=row.outcome.arm, **_style(row.outcome.arm))
    whole = [curve for curve in curves.values() if curve]
    axes.set_ylim(0.5 * min(map(min, whole)), 2.0 * max(curve[0] for curve in whole))
    axes.grid(alpha=0.3)


def _style(arm: str) -> dict[str, Any]:
    if arm == "learned":
        return {"color": OURS, "lw": 2.4, "zorder": 5}
    if arm in _RIVALS:
        return {"color": _RIVALS[arm], "lw": 1.2}
    colour = UNDER_ADAM if "Adam" in arm else UNDER_MOMENTUM
    return {"color": colour, "lw": 1.2, "ls": _DASHES[arm[arm.index("×") :]]}
