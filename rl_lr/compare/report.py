"""Tables of a comparison, for the terminal and in Markdown."""

import math
from collections.abc import Sequence
from statistics import median

from rich.table import Table

from rl_lr.compare.figures import Cell, Duel, Summary

Columns = dict[str, str]
"""The cells of a line by the heading of their column."""


def summary_columns(one: Summary) -> Columns:
    """An arm over all workloads and base rates."""
    return {
        "arm": one.arm,
        "median": f"{one.median:+.3f}",
        "middle half": _with_interval(one.middle, one),
        "≤ 0.01": f"{100 * one.at_reference:.0f} %",
        "within 1 %": f"{100 * one.within:.0f} %",
        "worst": f"{100 * one.worst:.1f} %" if one.worst < 10.0 else "> 1000 %",
        "held out": f"{100 * one.held_out:+.1f} %",
        "reached at": f"{one.reached:.2f}",
        "lost": f"{one.lost} of {one.cells}",
    }


def duel_columns(one: Duel) -> Columns:
    """Our runs against those of another arm."""
    return {
        "against": one.arm,
        "ours is lower": f"{100 * one.lower:.0f} %",
        "by, nats": _with_interval(one.advantage, one),
    }


def _with_interval(value: float, one: Summary | Duel) -> str:
    """One workload alone has no interval: its cells resemble each other."""
    return f"{value:+.3f}" if math.isnan(one.low) else f"{value:+.3f} ({one.low:+.3f} to {one.high:+.3f})"


def workload_columns(cells: Sequence[Cell]) -> Columns:
    """An arm on one workload: median normalised regret over seeds, in per cent, by base rate."""
    columns = {"workload": cells[0].workload}
    for factor in sorted({one.factor for one in cells}):
        value = median(one.normalised for one in cells if one.factor == factor)
        columns[f"×{factor:g}"] = f"{100 * value:+.2f}"
    return columns | {"median, nats": f"{median(one.regret for one in cells):+.3f}"}


def by_workload(cells: Sequence[Cell]) -> list[Columns]:
    """:func:`workload_columns` of each workload."""
    names = dict.fromkeys(one.workload for one in cells)
    return [workload_columns([one for one in cells if one.workload == name]) for name in names]


def terminal(title: str, lines: Sequence[Columns]) -> Table:
    """Lines as a table for the terminal."""
    table = Table(title=title)
    for index, heading in enumerate(lines[0]):
        table.add_column(heading, justify="right" if index else "left")
    for line in lines:
        table.add_row(*line.values())
    return table


def markdown(lines: Sequence[Columns]) -> str:
    """Lines as a table in Markdown."""
    rows = [
        list(lines[0]),
        ["---"] + ["---:"] * (len(lines[0]) - 1),
        *(list(line.values()) for line in lines),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
