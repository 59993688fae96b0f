"""What is kept of a comparison: a key for every set of runs, and the runs themselves."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rl_lr.compare.arms import references
from rl_lr.compare.runs import Arm, Track
from rl_lr.compare.store import Made, Store, keys
from rl_lr.compare.suites import own_workloads
from rl_lr.compare.workloads import Workload, held_out_tasks
from rl_lr.config import ControlConfig
from rl_lr.optimizers import OptimizerSpec

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


class Edited:
    """Somebody's own task, whose code is another the next time."""

    name, optimizer, batch_size = "edited", OptimizerSpec("sgd", lr=0.1), 8

    def __init__(self, activation: type[nn.Module] = nn.ReLU, power: float = 2.0) -> None:
        self.activation, self.power = activation, power

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 4), self.activation(), nn.Linear(4, 1))

    def data(self) -> tuple[Tensor, ...]:
        return (torch.randn(64, 3, generator=torch.Generator().manual_seed(0)),)

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        (x,) = batch
        loss: Tensor = (model(x) - x.sum(dim=1, keepdim=True)).abs().pow(self.power).mean()
        return loss


def test_a_task_whose_code_was_edited_is_another() -> None:
    arm = references()[0]
    tasks = [Edited(), Edited(nn.Tanh), Edited(power=1.5), Edited()]
    found = [keys(own_workloads([task], 60)[0], [arm])[0] for task in tasks]
    assert len(set(found)) == 3
    assert found[0] == found[3]


def test_a_damaged_line_is_named_with_its_file(tmp_path: Path) -> None:
    for line in ("no JSON", '{"a": 1}', "[]"):
        path = tmp_path / "runs.jsonl"
        path.write_text(f"{line}\n")
        with pytest.raises(ValueError, match=r"Line 1 of .*runs.jsonl is damaged .* delete it"):
            Store(path)


def test_what_was_made_is_read_back_as_it_was(tmp_path: Path) -> None:
    made = Made(1.5, (a_track(math.nan), a_track(0.25, seed=1)))
    Store(tmp_path / "runs.jsonl").add("key", SMALL[0], references()[0], made)
    store = Store(tmp_path / "runs.jsonl")
    assert "key" in store
    assert "other" not in store
    assert store["key"].tracks[1] == made.tracks[1]
    assert math.isnan(store["key"].tracks[0].final)
