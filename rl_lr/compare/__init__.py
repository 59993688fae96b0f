"""``rl-lr compare``: a policy against tuned schedules and its rivals, on networks that it never saw."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import track

from rl_lr.compare.arms import REFERENCE_RUNS, beside, contenders, line, references
from rl_lr.compare.boards import write_boards
from rl_lr.compare.comparison import Comparison
from rl_lr.compare.controlled import Controlled
from rl_lr.compare.page import results_page
from rl_lr.compare.plots import draw
from rl_lr.compare.report import by_workload, duel_columns, summary_columns, terminal
from rl_lr.compare.runs import Arm
from rl_lr.compare.store import Made, Store, keys
from rl_lr.compare.suites import Suite, suite
from rl_lr.compare.workloads import Workload
from rl_lr.policy import Policy
from rl_lr.process import dedicate_process
from rl_lr.randomness import seed_all
from rl_lr.tasks import Fit

__all__ = ["Comparison", "run_compare"]


def run_compare(
    out: Path,
    policy: Policy,
    name: Suite,
    jobs: int = 1,
    rivals: bool = True,
    page: Path | None = None,
    workloads: Sequence[Workload] | None = None,
    console: Console | None = None,
    others: Sequence[Policy] = (),
) -> Comparison:
    """Compare on a suite, print the tables, and write everything down.

    Writes into ``out``: ``runs.jsonl`` (every run, so that none is made twice), ``results.json``,
    ``tensorboard/``, three figures, and ``results.md``.

    Args:
        out: folder of the results; made if missing.
        policy: the policy that is compared.
        name: of the suite.
        jobs: processes.
        rivals: whether the arms that need the optional extra ``rivals`` take part.
        page: where the page goes instead.
        workloads: those of the suite that are wanted, None for all; for ``"own"`` those of
            :func:`rl_lr.compare.suites.own_workloads`.
        console: where progress and tables are shown.
        others: policies that are compared beside it, and with each other.

    Raises:
        ValueError: for no processes, no workloads, or two policies of one name.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}: give the number of processes, at least 1.")
    console, page = console or Console(), page or out / "results.md"
    if workloads is None:
        if name == "own":
            raise ValueError("The suite of own tasks has none of itself: give its workloads.")
        workloads = suite(name)
    arms = _arms(policy, beside(policy, others), rivals, workloads, console)
    made = make(workloads, arms, Store(out / "runs.jsonl"), jobs, console)
    comparison = Comparison(workloads, arms, references(), made, [line(one) for one in others])
    results = {
        "summaries": [asdict(one) for one in comparison.summaries],
        "duels": [asdict(one) for one in comparison.duels],
        "between": {name: [asdict(one) for one in duels] for name, duels in comparison.between.items()},
        "cells": [asdict(one) for cells in comparison.cells.values() for one in cells],
    }
    (out / "results.json").write_text(json.dumps(results, indent=1))
    write_boards(comparison, out / "tensorboard")
    figures = draw(comparison, out)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(results_page(comparison, name, policy, figures, page))
    _show(comparison, console)
    console.print(f"Page: {page}, curves: rl-lr board {out}", highlight=False, soft_wrap=True)
    return comparison


def _arms(
    policy: Policy, others: list[Controlled], rivals: bool, workloads: Sequence[Workload], console: Console
) -> list[Arm]:
    """All that can run on these workloads."""
    first, *controls = contenders(policy)
    arms: list[Arm] = [first, *others, *controls, *references()]
    if any(isinstance(one.task, Fit) for one in workloads):
        console.print("Fits are run by what sets one rate: not by each tensor, averaged, or by rivals.")
        controlled = [one for one in arms if isinstance(one, Controlled)]
        return [one for one in controlled if one.granularity == "network" and not one.average]
    return [*arms, *(_rivals() if rivals else [])]


def make(
    workloads: Sequence[Workload], arms: Sequence[Arm], store: Store, jobs: int, console: Console
) -> list[dict[str, Made]]:
    """The runs of every arm by its name, for each workload; what the store has is not made again."""
    wanted = [(load, arm, key) for load in workloads for arm, key in zip(arms, keys(load, arms), strict=True)]
    missing = [(index, unit) for index, unit in enumerate(wanted) if unit[2] not in store]
    running = Parallel(jobs, return_as="generator_unordered")(
        delayed(_make)(index, load, arm) for index, (load, arm, _) in missing
    )
    for index, made in track(running, "runs", total=len(missing), console=console):
        load, arm, key = wanted[index]
        store.add(key, load, arm, made)
    return [{arm.name: store[key] for load, arm, key in wanted if load is one} for one in workloads]


def _make(index: int, workload: Workload, arm: Arm) -> tuple[int, Made]:
    dedicate_process()
    seed_all(0)  # networks that draw noise draw the same whatever this process ran before
    began = time.monotonic()
    tracks = tuple(arm.run(workload))
    return index, Made(round(time.monotonic() - began, 1), tracks)


def _rivals() -> Sequence[Arm]:
    try:
        from rl_lr.compare.rivals import rivals

        return rivals()
    except ImportError as error:
        raise ValueError(
            f"The rivals are optimizers of other packages, and {error.name} is missing: "
            f"pip install 'rl-lr[rivals]', or leave them out with --rivals false."
        ) from error


def _show(comparison: Comparison, console: Console) -> None:
    """The tables on the terminal."""
    name, cells = next(iter(comparison.cells.items()))
    console.print(
        terminal(f"{name}: normalised regret, %, median over seeds, by base rate", by_workload(cells))
    )
    console.print(
        terminal(f"{name} against each arm, run by run", [duel_columns(one) for one in comparison.duels])
    )
    for name, duels in comparison.between.items():
        console.print(terminal(f"{name} against others beside it", [duel_columns(one) for one in duels]))
    console.print(
        terminal(
            f"Against the best of {REFERENCE_RUNS} tuned runs: regret in nats, lower is better (95 % interval)",
            [summary_columns(one) for one in comparison.summaries],
        )
    )
