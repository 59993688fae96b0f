"""Tables of the comparison, and the part of a page that holds them."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from rl_lr.compare.report import Columns, markdown, terminal
from rl_lr.few_shot.config import FewShotConfig
from rl_lr.few_shot.measure import Demand, Interval, Row
from rl_lr.provenance import command, commit, machine, versions

BEGIN, END = "<!-- few-shot: written by the command -->", "<!-- few-shot: end -->"
"""Between them a page holds what the command writes."""


def row_columns(row: Row) -> Columns:
    """An arm as a line of the table."""
    return {
        "arm": row.arm,
        "shots": str(row.shots),
        "test classes": percent(row.glyphs),
        "digits": "–" if row.digits is None else percent(row.digits),
        "meta-learner ahead by": percent(row.ahead, sign=True),
    }


def demand_columns(one: Demand) -> Columns:
    """A line of what was to be reached."""
    return {
        "to be above": one.rival,
        "shots": str(one.shots),
        "meta-learner": f"from {100 * one.ours.low:.1f} %",
        "rival": f"up to {100 * one.theirs.high:.1f} %",
        "reached": "yes" if one.reached else "**no**",
    }


def percent(interval: Interval, sign: bool = False) -> str:
    """Mean and half width, in per cent."""
    mean = f"{100 * interval.mean:+.1f}" if sign else f"{100 * interval.mean:.1f}"
    return f"{mean} ± {100 * interval.half:.1f}"


def tables(rows: Sequence[Row], demands: Sequence[Demand]) -> list[Table]:
    """For the terminal."""
    return [
        terminal(
            "Accuracy in per cent, mean ± 95 % interval over episodes", [row_columns(row) for row in rows]
        ),
        terminal("What is to be reached: 95 % intervals apart", [demand_columns(one) for one in demands]),
    ]


def facts(
    config: FewShotConfig,
    source: str,
    rows: Sequence[Row],
    demands: Sequence[Demand],
    notes: dict[str, object],
) -> dict[str, object]:
    """Everything that was found, as plain types."""
    return {
        "command": command(),
        "commit": commit(),
        "versions": versions(),
        "machine": machine(),
        "images": source,
        "settings": asdict(config),
        "rows": [asdict(row) for row in rows],
        "demands": [asdict(one) | {"reached": one.reached} for one in demands],
        "notes": notes,
    }


def write_json(path: Path, found: dict[str, object]) -> None:
    """As a file, its folder made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def write_page(page: Path, rows: Sequence[Row], demands: Sequence[Demand], source: str) -> None:
    """Renew the marked part of a page; make the page if there is none."""
    old = page.read_text(encoding="utf-8") if page.is_file() else f"# Few-shot\n\n{BEGIN}\n{END}\n"
    if BEGIN not in old or END not in old:
        raise ValueError(f"{page} has no part for the results: put the lines {BEGIN} and {END} into it.")
    before, after = old.split(BEGIN)[0], old.split(END)[1]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before}{BEGIN}\n{_part(rows, demands, source)}\n{END}{after}", encoding="utf-8")


def _part(rows: Sequence[Row], demands: Sequence[Demand], source: str) -> str:
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    return f"""Made by `{command()}` at commit `{commit() or "unknown"}`; {used}; {machine()}. Images: {source}.

Accuracy in per cent, mean ± 95 % interval over episodes, which are the same for every arm. The last column is the mean of
the meta-learner's accuracy minus the arm's, episode by episode of the test classes.

{markdown([row_columns(row) for row in rows])}

What was to be reached: 95 % intervals apart.

{markdown([demand_columns(one) for one in demands])}"""
