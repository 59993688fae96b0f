"""``rl-lr siblings learned-optimizer``: learned steps for every coordinate against tuned optimizers."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import bootstrap

from rl_lr.compare.report import terminal
from rl_lr.coordinate.arms import LOST, TUNED, Outcome, Problem, controlled, facts, learned, tuned
from rl_lr.coordinate.page import lines, musts, put_section, section
from rl_lr.coordinate.plot import draw
from rl_lr.coordinate.problems import problems
from rl_lr.optimizers import CENTRES, OptimizerSpec
from rl_lr.policy_files import write_atomically

RESULTS, FIGURE = "learned-optimizer.json", "learned-optimizer.png"
_FACTORS = (0.01, 1.0, 100.0)
_RESAMPLES = 9999

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """An arm on a problem."""

    outcome: Outcome
    """What its runs came to."""
    mean: float
    """Mean loss at the end, over seeds."""
    gap: float
    """Mean of the learned optimizer's loss minus that of this arm, seed by seed; 0 of itself."""
    low: float
    """Lower end of the 95 % bootstrap interval of the gap (bias-corrected, seeds drawn in pairs)."""
    high: float
    """Upper end; below zero the learned optimizer is lower by more than chance."""
    lower: float
    """Share of seeds on which the learned optimizer is lower."""
    lost: int
    """Seeds whose loss is not finite at the end."""


Results = list[tuple[Problem, list[Row]]]
"""The arms of every problem, the learned optimizer first."""


def run_learned_optimizer(
    out: Path,
    page: Path | None = None,
    mnist: Path | None = None,
    quick: bool = False,
    console: Console | None = None,
    policies: tuple[str, str] = ("quadratics", "sigmoid-mlp"),
) -> Results:
    """Compare, print the tables, and write ``learned-optimizer.json``, a figure, and the section of a page.

    Args:
        out: folder of the results; made if missing. Runs that are in it already are not made again.
        page: page whose section between the markers is written anew; None for ``results.md`` in ``out``.
        mnist: folder with the files of MNIST; None for ``data``, if they lie there.
        quick: a few short runs only.
        console: where progress and tables are shown.
        policies: for quadratics and for networks.
    """
    console, page = console or Console(), page or out / "results.md"
    if mnist is None and (Path("data") / "MNIST" / "raw").is_dir():
        mnist = Path("data")
    wanted = problems(mnist, quick, policies)
    out.mkdir(parents=True, exist_ok=True)
    results = [(one, _compare(_run(one, out / RESULTS, console))) for one in wanted]
    draw(results, out / FIGURE)
    put_section(page, section(results, out / FIGURE, page, mnist is not None))
    for problem, rows in results:
        console.print(terminal(f"{problem.name}: mean loss at the end, {problem.seeds} seeds", lines(rows)))
    for must in musts(results):
        console.print(must, highlight=False, soft_wrap=True)
    console.print(f"Page: {page}, results: {out / RESULTS}", highlight=False, soft_wrap=True)
    return results


def _run(problem: Problem, path: Path, console: Console) -> list[Outcome]:
    """Every arm on a problem; what the file has of it is not run again."""
    kept, outcomes = _kept(path), []
    arms = kept.setdefault(problem.name, {})
    for name, run in _arms(problem).items():
        key = hashlib.sha256(json.dumps(facts(problem, name)).encode()).hexdigest()[:16]
        if arms.get(name, {}).get("key") != key:
            with console.status(f"{problem.name}: {name}"):
                arms[name] = {"key": key, "outcome": asdict(run())}
            write_atomically({path: (json.dumps(kept) + "\n").encode()})
        outcomes.append(_read(arms[name]["outcome"]))
    return outcomes


def _kept(path: Path) -> dict[str, Any]:
    """Runs made before, by problem and arm."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): delete it, and its runs are made again.") from error
    return kept


def _read(one: dict[str, Any]) -> Outcome:
    """What JSON made of an outcome: its tuples are lists there."""
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in one.items()}
    return Outcome(**fields)


def _arms(problem: Problem) -> dict[str, Callable[[], Outcome]]:
    """By name; the learned optimizer is the first."""
    arms: dict[str, Callable[[], Outcome]] = {"learned": partial(learned, problem)}
    arms |= {name: partial(tuned, problem, name) for name in TUNED}
    for spec in (OptimizerSpec("adam", lr=CENTRES["adam"]), OptimizerSpec("sgd", lr=CENTRES["sgd"])):
        for factor in _FACTORS:
            name = f"RL policy, {'Adam' if spec.kind == 'adam' else 'momentum'} ×{factor:g}"
            arms[name] = partial(controlled, problem, name, spec, factor)
    return arms


def _compare(outcomes: list[Outcome]) -> list[Row]:
    """Every arm against the first."""
    ours = np.array(outcomes[0].final)
    return [_row(one, ours, np.array(one.final)) for one in outcomes]


def _row(outcome: Outcome, ours: Floats, theirs: Floats) -> Row:
    gaps, lost = ours - theirs, int((theirs >= LOST).sum())
    low = high = float(gaps.mean())
    if gaps.std() > 0.0:
        found = bootstrap((gaps,), np.mean, n_resamples=_RESAMPLES, method="BCa", rng=0)
        low, high = float(found.confidence_interval.low), float(found.confidence_interval.high)
    lower = float((gaps < 0.0).mean())
    return Row(outcome, float(theirs.mean()), float(gaps.mean()), low, high, lower, lost)
