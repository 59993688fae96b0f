"""Unrolled runs under a coordinate-wise network: the derivative is the paper's, and that of the whole is checked."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rl_lr.coordinate.network import CoordinateNetwork, NetworkSpec
from rl_lr.coordinate.tasks import quadratics
from rl_lr.coordinate.unroll import Runs, check_twice_differentiable
from rl_lr.engine import Engine, build_objective
from rl_lr.optimizers import OptimizerSpec
from rl_lr.tasks.tensors import TensorTask, cross_entropy, squared_error


def network(hidden: int = 4, layers: int = 2) -> CoordinateNetwork:
    torch.manual_seed(0)
    return CoordinateNetwork(NetworkSpec(layers, hidden))


def classifier(criterion: Callable[..., Tensor] = cross_entropy) -> TensorTask:
    x, y = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
    factory: Callable[[], nn.Module] = lambda: nn.Sequential(nn.Linear(5, 4), nn.Sigmoid(), nn.Linear(4, 3))
    return TensorTask("classifier", OptimizerSpec(), 8, factory, (x, y), criterion)


def test_a_network_that_says_nothing_leaves_the_weights() -> None:
    still = network()
    nn.init.zeros_(still.head.weight)
    nn.init.constant_(still.head.bias, 0.0)
    runs = Runs(Engine(quadratics(4), [0, 1]), still)
    first = runs.losses
    torch.testing.assert_close(runs.unroll(3)[-1].detach(), first)


def test_a_network_that_always_says_the_same_moves_every_weight_by_scale_times_it() -> None:
    steady = network()
    nn.init.zeros_(steady.head.weight)
    nn.init.constant_(steady.head.bias, 0.5)
    engine = Engine(quadratics(4), [0, 1])
    before = engine.weights
    Runs(engine, steady).unroll(3)
    torch.testing.assert_close(engine.weights - before, torch.full((2, 4), 3 * 0.1 * 0.5))


@pytest.mark.parametrize("second_order", [False, True])
def test_the_bias_of_the_output_is_differentiated_as_by_hand(second_order: bool) -> None:
    """L(θ₀ + 0.1 b 1) after one step: dL/db = 0.1 · 1ᵀ∇L, whatever is told to the network."""
    steady = network()
    nn.init.zeros_(steady.head.weight)
    nn.init.constant_(steady.head.bias, 0.5)
    runs = Runs(Engine(quadratics(3), [0]), steady, second_order)
    loss = runs.unroll(1)[-1, 0]
    objective = build_objective(quadratics(3), 0)
    w, y = objective.get_buffer("model.w"), objective.get_buffer("model.y")
    theta = objective.get_parameter("model.theta").detach() + 0.05
    (slope,) = torch.autograd.grad(loss, [steady.head.bias])
    torch.testing.assert_close(slope, 0.1 * (2 * w.mT @ (w @ theta - y)).sum().reshape(1))


def numeric_slope(loss: Callable[[], Tensor], weight: Tensor, place: tuple[int, ...]) -> float:
    sums = []
    for nudge in (1e-2, -1e-2):
        with torch.no_grad():
            weight[place] += nudge
        sums.append(float(loss().detach()))
        with torch.no_grad():
            weight[place] -= nudge
    return (sums[0] - sums[1]) / 2e-2


def test_the_whole_derivative_is_what_nudging_a_weight_gives() -> None:
    """With second_order; gradients as constants leave out a part of it."""
    learner = network()
    for parameter in learner.parameters():  # far from kinks of |g|, with an effect that can be seen
        nn.init.normal_(parameter, 0.0, 0.7)

    def loss(second_order: bool = True) -> Tensor:
        return Runs(Engine(quadratics(3), [0, 1]), learner, second_order).unroll(4).sum()

    weight, place = learner.cells[0].weight_ih, (0, 0)
    assert isinstance(weight, nn.Parameter)
    (whole,) = torch.autograd.grad(loss(), [weight])
    (papers,) = torch.autograd.grad(loss(second_order=False), [weight])
    expected = numeric_slope(loss, weight, place)
    assert float(whole[place]) == pytest.approx(expected, rel=2e-2)
    assert abs(float(papers[place]) - expected) > 1e-3 * abs(expected)
    torch.testing.assert_close(loss(), loss(second_order=False))


def test_gradients_as_constants_are_the_derivative_of_a_chain_with_them_frozen() -> None:
    """The slow way: record what was told to the network, then let autograd go through one long expression."""
    learner, told = network(), []
    engine = Engine(classifier(), [0, 1])
    runs = Runs(engine, learner)
    start = engine.weights
    losses = []
    for _ in range(3):
        told.append(runs._gradients.detach().clone())
        losses.append(float(runs.unroll(1).detach().sum()))
    again = Runs(Engine(classifier(), [0, 1]), learner).unroll(3)
    assert again.detach().sum(dim=1).tolist() == pytest.approx(losses, rel=1e-5)

    slow = Engine(classifier(), [0, 1])
    slow.draw()  # the gradient of the first step
    memory, moved, total = learner.start(start.numel()), torch.zeros_like(start), torch.zeros(())
    shapes = [p.shape for p in slow.parameters.values()]
    for gradient in told:
        update, memory = learner(gradient.reshape(-1), memory)
        moved = moved + update.view_as(moved)
        parts = (start + moved).split([s[1:].numel() for s in shapes], dim=1)
        named = dict(
            zip(slow.parameters, (p.view(s) for p, s in zip(parts, shapes, strict=True)), strict=True)
        )
        total = total + slow.losses(named, slow.draw()).sum()
    weights = list(learner.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(again.sum(), weights), torch.autograd.grad(total, weights), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_a_derivative_ends_where_its_unroll_began() -> None:
    learner = network()
    runs = Runs(Engine(quadratics(3), [0]), learner)
    runs.unroll(2).sum().backward()
    runs.unroll(2).sum().backward()  # would fail on freed graphs if it went further back


def test_runs_do_not_touch_each_other() -> None:
    learner = network()
    with torch.no_grad():
        alone = Runs(Engine(quadratics(3), [7]), learner).unroll(20)
        among = Runs(Engine(quadratics(3), [5, 7, 9]), learner).unroll(20)
    torch.testing.assert_close(alone[:, 0], among[:, 1])


class Once(torch.autograd.Function):
    """A square whose derivative has none."""

    @staticmethod
    def forward(ctx: "torch.autograd.function.FunctionCtx", x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: "torch.autograd.function.FunctionCtx", grad: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]  # type: ignore[attr-defined]
        return 2 * x * grad


@pytest.mark.filterwarnings("ignore:.*cannot be stacked")
def test_a_loss_that_cannot_be_differentiated_twice_is_refused_where_that_is_asked_for() -> None:
    def once(logits: Tensor, _: Tensor) -> Tensor:
        square: Tensor = Once.apply(logits)  # type: ignore[no-untyped-call]
        return square.sin().mean()

    with pytest.raises(ValueError, match=r"cannot be differentiated twice \(trying to differentiate twice"):
        check_twice_differentiable(classifier(once))
    runs = Runs(Engine(classifier(once), [0]), network())
    assert math.isfinite(float(runs.unroll(2).detach().sum()))


def test_infinite_second_derivatives_are_refused() -> None:
    def steep(output: Tensor, _: Tensor) -> Tensor:
        return (0.0 * output).abs().pow(1.5).sum()

    with pytest.raises(ValueError, match="not finite"):
        check_twice_differentiable(classifier(steep))


def test_losses_without_second_derivatives_that_are_not_zero_pass() -> None:
    check_twice_differentiable(classifier(lambda output, _: output.sum()))
    task = TensorTask(
        "linear", OptimizerSpec(), 2, lambda: nn.Linear(2, 1), (torch.ones(4, 2),), squared_error
    )
    check_twice_differentiable(task)
