"""Tables of a comparison."""

from collections.abc import Sequence
from statistics import median

from rich.table import Table

from rl_lr.compare.figures import Cell, Summary


def summary_table(summaries: Sequence[Summary]) -> Table:
    """One row for each arm, all workloads and base rates together."""
    table = Table(
        title="Against the best of 27 tuned runs (regret in nats, lower is better; [ ] 95 % interval)"
    )
    table.add_column("arm")
    for heading in ("median", "middle half", "≤ 0.01", "within 1 %", "worst", "reached at", "lost"):
        table.add_column(heading, justify="right")
    for one in summaries:
        table.add_row(
            one.arm,
            f"{one.median:+.3f}",
            f"{one.middle:+.3f} \\[{one.low:+.3f}, {one.high:+.3f}]",
            f"{100 * one.at_reference:.0f} %",
            f"{100 * one.within:.0f} %",
            f"{100 * one.worst:.1f} %",
            f"{one.reached:.2f}",
            str(one.lost),
        )
    return table


def workload_table(cells: Sequence[Cell], arm: str) -> Table:
    """An arm's median normalised regret, in per cent, by workload and base rate."""
    factors = sorted({one.factor for one in cells})
    table = Table(title=f"{arm}: normalised regret, %, median over seeds, by base rate")
    table.add_column("workload")
    for factor in factors:
        table.add_column(f"×{factor:g}", justify="right")
    for workload in dict.fromkeys(one.workload for one in cells):
        row = [
            median(one.normalised for one in cells if (one.workload, one.factor) == (workload, factor))
            for factor in factors
        ]
        table.add_row(workload, *(f"{100 * value:.2f}" for value in row))
    return table
