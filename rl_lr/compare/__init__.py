"""``rl-lr compare``: a policy against tuned schedules and its rivals, on networks that it never saw."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import track

from rl_lr.compare.arms import contenders, references
from rl_lr.compare.controlled import FACTORS
from rl_lr.compare.figures import Cell, Reference, Summary, cell, summary
from rl_lr.compare.report import summary_table, workload_table
from rl_lr.compare.runs import Arm
from rl_lr.compare.store import Made, Store, keys
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
        Policy.load(policy),
        held_out() if workloads is None else workloads,
        Store(out / "runs.jsonl"),
        jobs,
        console,
    )
    names = list(dict.fromkeys(one.arm for one in cells))
    summaries = [summary(name, [one for one in cells if one.arm == name]) for name in names]
    results = {"summaries": [asdict(one) for one in summaries], "cells": [asdict(one) for one in cells]}
    (out / "results.json").write_text(json.dumps(results, indent=1))
    console.print(workload_table([one for one in cells if one.arm == names[0]], names[0]))
    console.print(summary_table(summaries))
    return summaries


def compare(
    policy: Policy, workloads: Sequence[Workload], store: Store, jobs: int, console: Console
) -> list[Cell]:
    """Every run of every arm against the reference of its workload and seed.

    Args:
        policy: the policy that is compared.
        workloads: what is run.
        store: where runs are kept; those that are there already are not made again.
        jobs: processes.
        console: where progress is shown.
    """
    tuned, arms = references(), (*contenders(policy), *references())
    made = make(workloads, arms, store, jobs, console)
    cells = []
    for workload, runs in zip(workloads, made, strict=True):
        grid = [one for arm in tuned for one in runs[arm.name].tracks]
        best = {seed: Reference.of([one for one in grid if one.seed == seed]) for seed in range(workload.seeds)}
        cells += [
            cell(workload.name, arm.name, one, best[one.seed], workload.steps)
            for arm in arms
            for one in runs[arm.name].tracks
            if one.factor in FACTORS
        ]
    return cells


def make(
    workloads: Sequence[Workload], arms: Sequence[Arm], store: Store, jobs: int, console: Console
) -> list[dict[str, Made]]:
    """The runs of every arm by its name, for each workload; what the store has is not made again."""
    wanted = [
        (workload, arm, key)
        for workload in workloads
        for arm, key in zip(arms, keys(workload, arms), strict=True)
    ]
    missing = [(index, unit) for index, unit in enumerate(wanted) if store.get(unit[2]) is None]
    running = Parallel(jobs, return_as="generator_unordered")(
        delayed(_make)(index, workload, arm) for index, (workload, arm, _) in missing
    )
    for index, made in track(running, "runs", total=len(missing), console=console):
        workload, arm, key = wanted[index]
        store.add(key, workload, arm, made)
    found: dict[str, dict[str, Made]] = {workload.name: {} for workload in workloads}
    for workload, arm, key in wanted:
        found[workload.name][arm.name] = store.get(key)
    return list(found.values())


def _make(index: int, workload: Workload, arm: Arm) -> tuple[int, Made]:
    dedicate_process()
    began = time.monotonic()
    tracks = tuple(arm.run(workload))
    return index, Made(round(time.monotonic() - began, 1), tracks)
