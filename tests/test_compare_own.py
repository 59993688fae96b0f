"""A comparison on tasks of one's own: with the protocol of the suites, on the engine and by real Trainers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fits import QUIET, Module, rows
from rich.console import Console
from torch import Tensor, nn

from rl_lr.compare import run_compare
from rl_lr.compare.arms import references
from rl_lr.compare.controlled import FACTORS
from rl_lr.compare.store import keys
from rl_lr.compare.suites import own_workloads
from rl_lr.compare.workloads import Workload
from rl_lr.envs import LightningFit
from rl_lr.optimizers import OptimizerSpec
from rl_lr.policy import Policy
from rl_lr.tasks.families import quadratic

pytestmark = [pytest.mark.filterwarnings(text) for text in QUIET]

FIT = LightningFit(Module, rows, {"max_epochs": 2}, name="regression")


class Line:
    name = "line"
    optimizer = OptimizerSpec("sgd", lr=0.1)
    batch_size = 16

    def model(self) -> nn.Module:
        return nn.Linear(3, 1)

    def data(self) -> tuple[Tensor, ...]:
        x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        return x, x.sum(dim=1, keepdim=True)

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        loss: Tensor = (model(batch[0]) - batch[1]).square().mean()
        return loss


def test_a_task_keeps_a_fifth_of_its_rows_apart() -> None:
    task = own_workloads([Line()], 60)[0].stepped
    kept, apart = task.data()[0], task.held_out[0]
    assert (len(kept), len(apart)) == (80, 20)
    assert not (apart[:, None] == kept[None]).all(dim=-1).any()


class Few(Line):
    def data(self) -> tuple[Tensor, ...]:
        x, y = super().data()
        return x[:2], y[:2]


class Undefined(Line):
    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        return super().loss(model, *batch) * torch.nan


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        ([Line(), Line()], "Two tasks are called 'line', which is all that tells them apart"),
        ([Few()], "has too few rows to keep a fifth of them apart"),
        ([Undefined()], "The loss of task 'line' is nan at the initial weights"),
        ([], "No task to compare on"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_run(tasks: list[Line], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        own_workloads(tasks, 60)


def test_of_a_family_several_tasks_are_compared_and_a_fit_has_its_own_horizon() -> None:
    workloads = own_workloads([quadratic, FIT], 60)
    assert [load.steps for load in workloads] == [60, 60, 60, 80]
    assert len({load.name for load in workloads}) == 4
    with pytest.raises(TypeError, match="its optimizer is its module's own"):
        _ = workloads[-1].stepped


def test_a_policy_is_compared_with_the_default_and_tuned_schedules_on_a_fit_and_a_task(
    tmp_path: Path,
) -> None:
    policy = replace(Policy.load("default"), provenance={"mine": True}, name="mine")
    console = Console(record=True, width=200)
    fit, line = own_workloads([FIT, Line()], 60)
    workloads = [replace(fit, seeds=1), line]  # real fits take long
    found = run_compare(tmp_path, policy, "own", workloads=workloads, console=console)
    assert {"rl-lr", "rl-lr, default", "cosine", "linear", "wsd", "blind policy"} <= set(found.cells)
    assert not {"rl-lr, each tensor", "rl-lr, averaged", "Prodigy"} & set(found.cells)
    assert "Fits are run by what sets one rate" in console.export_text()
    assert [one.regret for one in found.cells["rl-lr"]] == [
        one.regret for one in found.cells["rl-lr, default"]
    ]
    fitted = [one for one in found.cells["rl-lr"] if one.workload == workloads[0].name]
    assert {one.factor for one in fitted} == set(FACTORS)
    assert max(one.normalised for one in fitted) < 0.02
    assert "regression, 80 steps" in (tmp_path / "results.md").read_text()
    made = (tmp_path / "runs.jsonl").read_text()
    run_compare(tmp_path, policy, "own", workloads=workloads, console=console)
    assert (tmp_path / "runs.jsonl").read_text() == made


def test_a_fit_of_another_module_is_another_run() -> None:
    arm = references()[0]
    other = LightningFit(lambda: Module(lr=0.02), rows, {"max_epochs": 2}, name="regression")
    assert keys(Workload(FIT, 80, 3), [arm]) == keys(Workload(FIT, 80, 3), [arm])
    assert keys(Workload(FIT, 80, 3), [arm]) != keys(Workload(other, 80, 3), [arm])


def test_the_suite_of_own_tasks_wants_tasks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give its workloads"):
        run_compare(tmp_path, Policy.load("default"), "own")
