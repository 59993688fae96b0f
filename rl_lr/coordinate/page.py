"""The comparison of learned steps with tuned optimizers: its tables, and its section of a page."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rl_lr.compare.report import Columns, markdown
from rl_lr.coordinate.arms import FIRST_SEED, LOST, RATES, TUNED
from rl_lr.coordinate.policy import CoordinatePolicy
from rl_lr.provenance import command, commit, machine, versions

if TYPE_CHECKING:
    from rl_lr.coordinate.measure import Results, Row

BEGIN, END = "<!-- measured: written by rl-lr siblings learned-optimizer -->\n", "<!-- end of measured -->"


def lines(rows: "Sequence[Row]") -> list[Columns]:
    """The arms of a problem as lines of a table."""
    return [_columns(row, row is rows[0]) for row in rows]


def _columns(row: "Row", ours: bool) -> Columns:
    apart = row.outcome.held_out
    lost = f"{row.lost} of {len(row.outcome.final)} lost"
    return {
        "arm": row.outcome.arm,
        "mean loss": lost if row.lost else f"{row.mean:.4g}",
        "held out": f"{sum(apart) / len(apart):.4g}" if apart and max(apart) < LOST else "–",
        "learned minus this (95 %)": "" if ours or row.lost else _gap(row),
        "learned is lower": "" if ours else f"{row.lower:.0%}",
        "run with": row.outcome.setting + ("" if row.outcome.inside else ", **at the end of the grid**"),
    }


def _gap(row: "Row") -> str:
    return f"{row.gap:+.3g} ({row.low:+.3g} to {row.high:+.3g})"


def musts(results: "Results") -> list[str]:
    """For every rival that must be beaten, whether it is: the whole interval is below zero."""
    said = []
    for problem, rows in results:
        for row in rows if problem.must else []:
            if row.outcome.arm in TUNED:
                reached = "reached" if row.lost or row.high < 0.0 else "NOT reached"
                figure = f"{row.lost} runs lost" if row.lost else _gap(row)
                said.append(f"must: {problem.name}, learned below {row.outcome.arm}: {reached}, {figure}")
    return said


def section(results: "Results", figure: Path, page: Path, mnist: bool) -> str:
    """What stands between the markers of a page."""
    policies = dict.fromkeys(problem.policy for problem, _ in results)
    trained = "\n".join(_policy_line(CoordinatePolicy.load(name), name) for name in policies)
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    tables = "\n\n".join(
        f"### {problem.name}\n\n{problem.seeds} seeds; {'**must**' if problem.must else 'shown as well'}.\n\n"
        f"{markdown(lines(rows))}"
        for problem, rows in results
    )
    wanted = "\n".join(f"- {one}" for one in musts(results))
    absent = (
        "" if mnist else " The files of MNIST were not present; the images are scikit-learn's 8×8 digits."
    )
    picture = Path(os.path.relpath(figure, page.parent)).as_posix()
    return f"""
Made by `{command()}`, commit `{commit() or "unknown"}`; {used}; {machine()}.

{trained}

Seeds from {FIRST_SEED} on of initial weights and mini-batches (of a quadratic also of the problem itself) are the same for every arm, and
none of them was trained on or chosen by. Each rival has the best of {RATES} log-spaced rates, chosen by the mean final loss
on these very seeds, which favours the rivals. Losses are those of a fixed sample of training rows after the last step; of a
quadratic its value. Intervals: 95 % bootstrap (BCa) over seeds of the paired difference. "RL policy" is the
policy that ships as the default, one rate for the whole network, from 0.01, 1 and 100 times a usual rate.{absent}

## What had to be reached

{wanted}

![Mean loss by step, of every arm on every problem]({picture})

## All arms

{tables}

"""


def _policy_line(policy: CoordinatePolicy, name: str) -> str:
    facts = policy.provenance
    return (
        f"- Policy `{name}`, checksum `{policy.sha256[:12]}`: `{facts.get('command', 'unknown')}`, "
        f"{facts.get('minutes', '?')} minutes on one busy core, {facts.get('runs', '?')} runs of training."
    )


def put_section(page: Path, text: str) -> None:
    """Write a section between the markers of a page, or a page of nothing else."""
    page.parent.mkdir(parents=True, exist_ok=True)
    whole = page.read_text(encoding="utf-8") if page.is_file() else f"# Learned optimizer\n\n{BEGIN}{END}\n"
    if BEGIN not in whole or END not in whole:
        raise ValueError(
            f"{page} has no section to write: put the lines {BEGIN.strip()!r} and {END!r} around its place."
        )
    before, rest = whole.split(BEGIN, 1)
    page.write_text(before + BEGIN + text + END + rest.split(END, 1)[1], encoding="utf-8")
