"""``rl-lr compare``: a policy against tuned schedules and its rivals, on networks that it never saw."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import track

from rl_lr.compare.arms import Arm, arms, references
from rl_lr.compare.figures import Cell, Reference, Summary, cell, summary
from rl_lr.compare.report import summary_table, workload_table
from rl_lr.compare.store import Store
from rl_lr.compare.workloads import Workload, held_out
from rl_lr.policy import Policy
from rl_lr.process import dedicate_process

__all__ = ["compare", "run_compare"]


def run_compare(
    out: Path, policy: str, jobs: int, workloads: Sequence[Workload] | None = None
) -> list[Summary]:
    """Compare on the held-out suite, write ``results.json`` and print the tables."""
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}: give the number of processes, at least 1.")
    console = Console()
    cells = compare(
        Policy.load(policy), held_out() if workloads is None else workloads, out / "runs", jobs, console
    )
    names = list(dict.fromkeys(one.arm for one in cells))
    summaries = [summary(name, [one for one in cells if one.arm == name]) for name in names]
    results = {"summaries": [asdict(one) for one in summaries], "cells": [asdict(one) for one in cells]}
    (out / "results.json").write_text(json.dumps(results, indent=1))
    console.print(workload_table([one for one in cells if one.arm == names[0]], names[0]))
    console.print(summary_table(summaries))
    return summaries


def compare(
    policy: Policy, workloads: Sequence[Workload], folder: Path, jobs: int, console: Console
) -> list[Cell]:
    """Every run of every arm against the reference of its workload and seed.

    Args:
        policy: the policy that is compared.
        workloads: what is run.
        folder: where runs are kept; those that are there already are not made again.
        jobs: processes.
        console: where progress is shown.
    """
    store, control = Store(folder), policy.control
    tuned, compared = references(control), arms(policy)
    wanted = [(workload, arm) for workload in workloads for arm in (*tuned, *compared)]
    missing = [unit for unit in wanted if not store.has(*unit)]
    made = Parallel(jobs, return_as="generator_unordered")(delayed(_make)(store, *unit) for unit in missing)
    for _ in track(made, "runs", total=len(missing), console=console):
        pass
    return [one for workload in workloads for one in _cells(store, workload, tuned, compared)]


def _make(store: Store, workload: Workload, arm: Arm) -> None:
    dedicate_process()
    store.make(workload, arm)


def _cells(store: Store, workload: Workload, tuned: Sequence[Arm], compared: Sequence[Arm]) -> list[Cell]:
    grid = [one for arm in tuned for one in store.load(workload, arm)]
    best = {seed: Reference.of([one for one in grid if one.seed == seed]) for seed in range(workload.seeds)}
    return [
        cell(workload.name, arm.name, one, best[one.seed], workload.steps)
        for arm in compared
        for one in store.load(workload, arm)
    ]
