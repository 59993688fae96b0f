"""What is kept of a comparison: a key for every set of runs, and the runs themselves."""

import math
from dataclasses import replace
from pathlib import Path

from rl_lr.compare.arms import references
from rl_lr.compare.runs import Arm, Track
from rl_lr.compare.store import Made, Store, keys
from rl_lr.compare.workloads import Workload, held_out_tasks
from rl_lr.config import ControlConfig

TASKS = {task.name: task for task in held_out_tasks()}
SMALL = [Workload(TASKS[name], 80, seeds=2) for name in ("linear model", "matrix factorisation")]


def a_track(final: float = 0.5, seed: int = 0, factor: float = 1.0) -> Track:
    return Track(factor, seed, 2.0, final, 2 * final, (10, 20), (1.0, final), (0.1, 0.01))


def test_other_constants_another_network_or_other_rates_are_other_runs() -> None:
    arm = references()[0]
    others: list[tuple[Workload, Arm]] = [
        (SMALL[1], arm),
        (replace(SMALL[0], steps=81), arm),
        (SMALL[0], replace(arm, control=ControlConfig(bound=3.0))),
        (SMALL[0], replace(arm, factors=(1.0,))),
        (SMALL[0], replace(arm, identity="another policy")),
        (SMALL[0], arm),
    ]
    found = [keys(workload, [one])[0] for workload, one in others]
    assert len(set(found)) == len(others)
    assert keys(SMALL[0], [arm])[0] == found[-1]


def test_what_was_made_is_read_back_as_it_was(tmp_path: Path) -> None:
    made = Made(1.5, (a_track(math.nan), a_track(0.25, seed=1)))
    Store(tmp_path / "runs.jsonl").add("key", SMALL[0], references()[0], made)
    store = Store(tmp_path / "runs.jsonl")
    assert "key" in store
    assert "other" not in store
    assert store["key"].tracks[1] == made.tracks[1]
    assert math.isnan(store["key"].tracks[0].final)
