"""Tasks that break their promises are named before anything is trained."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rl_lr
from rl_lr.optimizers import OptimizerSpec
from rl_lr.tasks import REAL, resolve
from rl_lr.tasks.check import check, check_deterministic
from rl_lr.tasks.families import TRAINING


class Regression:
    """A small task that keeps every promise; the others break one each."""

    name, optimizer, batch_size = "regression", OptimizerSpec("sgd", lr=0.1), 8

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))

    def data(self) -> tuple[Tensor, ...]:
        return (torch.randn(64, 3, generator=torch.Generator().manual_seed(0)),)

    def loss(self, model: nn.Module, x: Tensor) -> Tensor:
        loss: Tensor = (model(x) - x.sum(dim=1, keepdim=True)).square().mean()
        return loss


class OtherRows(Regression):
    def data(self) -> tuple[Tensor, ...]:
        return (torch.randn(64, 3),)


class OtherNumberOfRows(Regression):
    calls = 0

    def data(self) -> tuple[Tensor, ...]:
        OtherNumberOfRows.calls += 1
        return (torch.zeros(64 + OtherNumberOfRows.calls, 3),)


class OtherWeights(Regression):
    def model(self) -> nn.Module:
        network = nn.Linear(3, 1)
        nn.init.constant_(network.weight, float(np.random.default_rng().normal()))
        return network


class OtherLoss(Regression):
    def loss(self, model: nn.Module, x: Tensor) -> Tensor:
        return super().loss(model, x) * float(np.random.default_rng().normal())


class UndefinedLoss(Regression):
    def loss(self, model: nn.Module, x: Tensor) -> Tensor:
        return super().loss(model, x) * torch.nan


@pytest.mark.parametrize("task", [Regression(), UndefinedLoss(), *REAL, *(family for family, _ in TRAINING)])
def test_a_deterministic_task_passes(task: "rl_lr.Task | str") -> None:
    check_deterministic(resolve(task))


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (OtherRows(), r"data\(\) returned other rows"),
        (OtherNumberOfRows(), r"data\(\) returned other rows"),
        (OtherWeights(), r"model\(\) gave other weights under the same seed"),
        (OtherLoss(), r"loss\(\) gave other values"),
    ],
)
def test_a_task_that_is_not_deterministic_is_refused_with_what_differs(
    task: rl_lr.Task, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"Task 'regression' is not deterministic: {reason}"):
        rl_lr.train(tmp_path / "out", [task])
    assert not (tmp_path / "out").exists()


class Matrix(Regression):
    def loss(self, model: nn.Module, x: Tensor) -> Tensor:
        loss: Tensor = (model(x) - x.sum(dim=1, keepdim=True)).square()
        return loss


class Unused(Regression):
    def model(self) -> nn.Module:
        network = super().model()
        network.register_parameter("spare", nn.Parameter(torch.ones(2)))
        return network


class Constant(Regression):
    def loss(self, model: nn.Module, x: Tensor) -> Tensor:
        return super().loss(model, x).detach()


class Empty(Regression):
    def data(self) -> tuple[Tensor, ...]:
        return (torch.zeros(0, 3),)


class Uneven(Regression):
    def data(self) -> tuple[Tensor, ...]:
        return torch.zeros(3, 3), torch.zeros(4)


class NoBatch(Regression):
    batch_size = 0


class Unstackable(Regression):
    def loss(self, model: nn.Module, x: Tensor) -> Tensor:
        loss = super().loss(model, x)
        return loss if loss.item() >= 0 else -loss


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (Matrix(), "must be a scalar tensor"),
        (Unused(), "get no gradient: spare; use them"),
        (Constant(), "without detach"),
        (UndefinedLoss(), "is nan at the initial weights"),
        (Empty(), r"tensors of \[0\] rows"),
        (Uneven(), r"tensors of \[3, 4\] rows"),
        (NoBatch(), "batch_size 0"),
        (OtherRows(), "is not deterministic"),
        ("no.such:task", "cannot be imported"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_contract_says_in_plain_words_what_is_wrong(task: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check(task)  # type: ignore[arg-type]


def test_the_contract_says_what_it_costs_that_runs_cannot_be_stacked() -> None:
    check(Regression())  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="cannot be stacked .* take about 2 times as long as one"):
        check(Unstackable())  # type: ignore[arg-type]
