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
        return super().loss(model, x) * float(np.random.default_rng().uniform(0.5, 2.0))


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


class HalfABatch(Regression):
    batch_size = 8.0  # type: ignore[assignment]


class BelowZero(Regression):
    def loss(self, model: nn.Module, x: Tensor) -> Tensor:
        return super().loss(model, x) - 100.0


class OneTensor(Regression):
    def data(self) -> tuple[Tensor, ...]:
        return super().data()[0]  # type: ignore[return-value]


class Frozen(Regression):
    def model(self) -> nn.Module:
        model = super().model()
        next(model.parameters()).requires_grad_(False)
        return model


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
        (HalfABatch(), "batch_size 8.0: give a whole number"),
        (BelowZero(), "is -9.* at the initial weights, .* add a constant that keeps it above zero"),
        (OtherRows(), "is not deterministic"),
        ("no.such:task", "cannot be imported"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_contract_says_in_plain_words_what_is_wrong(task: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check(task)  # type: ignore[arg-type]


def test_what_is_of_another_type_is_named() -> None:
    with pytest.raises(
        TypeError, match=r"has data\(\) that returns Tensor: return a tuple of tensors, also of one"
    ):
        check(OneTensor())  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match="The family 'forgetful' gave NoneType and no task: let it return one"
    ):
        check(forgetful)  # type: ignore[arg-type]


def forgetful(rng: np.random.Generator) -> None:
    """A family whose author forgot to return."""


def test_a_task_may_be_given_by_its_class_and_have_frozen_layers() -> None:
    check(Regression)  # type: ignore[arg-type]
    check(Frozen())  # type: ignore[arg-type]


@pytest.mark.parametrize("task", [UndefinedLoss, BelowZero, NoBatch, Uneven])
def test_a_training_looks_before_it_begins(task: type[Regression], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Task 'regression' has|The loss of task 'regression'"):
        rl_lr.train(tmp_path / "out", [task()])  # type: ignore[list-item]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tasks", ["digits-mlp", Regression()], ids=["a name", "a task"])
def test_a_single_task_in_the_place_of_a_list_is_refused(tasks: object, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="pass a list, also of one task"):
        rl_lr.train(tmp_path / "out", tasks)  # type: ignore[arg-type]


def test_the_contract_says_what_it_costs_that_runs_cannot_be_stacked() -> None:
    check(Regression())  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="cannot be stacked .* take about 2 times as long as one"):
        check(Unstackable())  # type: ignore[arg-type]
