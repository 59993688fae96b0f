"""The engine against plain torch, and the independence of stacked runs."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rl_lr.batches import Batches
from rl_lr.engine import Engine, build_objective
from rl_lr.optimizers import OptimizerSpec
from rl_lr.tasks import TensorTask, real_task
from rl_lr.tasks.check import check
from rl_lr.tasks.tensors import squared_error


def parabola(spec: OptimizerSpec) -> TensorTask:
    """½ (w - 0)² summed over rows of ones: the gradient is w, the best step is 1."""

    class Point(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * (self.w * x).square().sum(dim=-1)

    return TensorTask("parabola", spec, 2, Point, (torch.ones(4, 3),), lambda loss, _: loss.mean())


def plain_losses(task: TensorTask, seed: int, lr: float, steps: int) -> tuple[list[float], Tensor]:
    """The same run with torch's own optimizer."""
    objective, batches = build_objective(task, seed), Batches(task, [seed])
    optimizer = task.optimizer.build(objective.parameters(), lr)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = objective(*(rows[0] for rows in batches.rows(batches.draw())))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, torch.cat([p.detach().reshape(-1) for p in objective.parameters()])


def test_newton_step_on_a_parabola_lands_on_the_minimum() -> None:
    engine = Engine(parabola(OptimizerSpec("sgd", momentum=0.0)), [0, 1, 2])
    loss, (gradient,) = engine.step(torch.tensor([1.0, 0.5, 2.0]))
    assert loss.tolist() == [1.5] * 3
    assert gradient.tolist() == [[1.0] * 3] * 3
    assert engine.weights.tolist() == [[0.0] * 3, [0.5] * 3, [-1.0] * 3]


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn", "digits-linear", "source-transformer"])
def test_each_stacked_run_is_the_plain_run_of_its_seed(name: str, traced: bool) -> None:
    task = real_task(name)
    rates = [task.optimizer.lr * factor for factor in (0.3, 1.0)]
    engine = Engine(task, [5, 6], traced=traced)
    stacked = torch.stack([engine.step(torch.tensor(rates))[0] for _ in range(20)]).T
    for run, (seed, rate) in enumerate(zip((5, 6), rates, strict=True)):
        losses, _ = plain_losses(task, seed, rate, 20)
        torch.testing.assert_close(stacked[run], torch.tensor(losses), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "rmsprop"])
def test_the_gradient_handed_out_is_the_one_before_decay(kind: Any) -> None:
    engine = Engine(parabola(OptimizerSpec(kind, weight_decay=0.5)), [0, 1])
    _, (gradient,) = engine.step(torch.full((2,), 1e-2))
    assert gradient.tolist() == [[1.0] * 3] * 2


def test_a_network_that_does_not_stack_is_run_one_by_one_and_says_so() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)
            self.register_buffer("seen", torch.zeros(()))
            self.seen: Tensor

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x)
            self.seen += 1
            return -y if float(y.detach().sum()) > 1e9 else y  # a decision on values

    digits = real_task("digits-linear")
    task = TensorTask("branching", digits.optimizer, 32, Branching, digits.tensors, digits.criterion)
    with pytest.warns(UserWarning, match=r"'branching' cannot be stacked .* 2 of them take about 2 times"):
        engine = Engine(task, [5, 6], traced=True)
    assert engine._buffers["model.seen"].tolist() == [0.0, 0.0]
    losses = torch.stack([engine.step(torch.tensor([0.01, 0.1]))[0] for _ in range(5)]).T
    for run, (seed, rate) in enumerate(((5, 0.01), (6, 0.1))):
        expected, _ = plain_losses(task, seed, rate, 5)
        torch.testing.assert_close(losses[run], torch.tensor(expected), rtol=1e-4, atol=1e-5)
    assert engine._buffers["model.seen"].tolist() == [5.0, 5.0]


def test_a_task_that_fails_by_itself_fails_with_its_own_error() -> None:
    task = TensorTask(
        "broken", OptimizerSpec(), 2, lambda: nn.Linear(3, 1), (torch.ones(4, 2),), squared_error
    )
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Engine(task, [0])


def test_a_diverging_neighbour_changes_nothing() -> None:
    task = real_task("digits-mlp")
    healthy = {}
    for other in (1e-3, 1e30):
        engine = Engine(task, [1, 2])
        for _ in range(15):
            engine.step(torch.tensor([1e-3, other]))
        healthy[other] = engine.weights[0].clone()
    assert not engine.weights[1].isfinite().all()
    assert torch.equal(healthy[1e-3], healthy[1e30])


def test_seeds_reproduce_runs_bit_for_bit() -> None:
    first, second = (Engine(real_task("digits-mlp"), [3, 4]) for _ in range(2))
    for _ in range(10):
        first.step(torch.full((2,), 1e-2))
        second.step(torch.full((2,), 1e-2))
    assert torch.equal(first.weights, second.weights)
    assert not torch.equal(first.weights[0], first.weights[1])


def test_building_an_engine_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    Engine(real_task("digits-linear"), [1])
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("traced", [False, True])
def test_batch_norm_and_dropout_stack(traced: bool) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))

    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    task = TensorTask("norm", OptimizerSpec(), 16, network, (x, x.sum(1, keepdim=True)), squared_error)
    engine = Engine(task, [0, 1, 2], traced=traced)
    before = engine.evaluate()
    for _ in range(200):
        engine.step(torch.full((3,), 1e-2))
    assert (engine.evaluate() < 0.5 * before).all()


@pytest.mark.parametrize("traced", [False, True])
def test_frozen_layers_stay_where_they_are_as_in_a_plain_loop(traced: bool) -> None:
    whole = real_task("digits-mlp")

    def factory() -> nn.Module:
        model = whole.model()
        next(model.parameters()).requires_grad_(False)
        return model

    task = replace(whole, factory=factory)
    engine = Engine(task, [5], traced=traced)
    losses = [float(engine.step(torch.tensor([task.optimizer.lr]))[0]) for _ in range(20)]
    plain, weights = plain_losses(task, 5, task.optimizer.lr, 20)
    assert losses == pytest.approx(plain, rel=1e-4, abs=1e-4)
    assert engine.weights.numel() < weights.numel()
    check(task)


def test_a_loss_that_is_not_scalar_is_refused_by_name() -> None:
    x = torch.ones(4, 2)
    task = TensorTask("rows", OptimizerSpec(), 2, lambda: nn.Linear(2, 1), (x,), lambda y, _: y)
    with pytest.raises(ValueError, match=r"task 'rows' must be a scalar tensor, got a tensor of shape"):
        Engine(task, [0])
    with pytest.raises(ValueError, match="must be a scalar tensor, got float"):
        build_objective(TensorTask("f", OptimizerSpec(), 2, nn.Identity, (x,), lambda y, _: 1.0), 0)(x)  # type: ignore[arg-type,return-value]


def test_a_batch_of_as_many_rows_as_there_are_is_all_of_them() -> None:
    whole = Batches(replace(parabola(OptimizerSpec()), batch_size=4), [1, 2])
    for _ in range(2):
        assert torch.equal(whole.draw(), torch.arange(4).expand(2, -1))
