"""Stacked optimizers against torch's own, run by run."""

import pytest
import torch

from rl_lr.optimizers import OptimizerSpec, StackedOptimizer, clip

SPECS = [
    OptimizerSpec("sgd", momentum=0.9),
    OptimizerSpec("sgd", momentum=0.0, weight_decay=0.1),
    OptimizerSpec("sgd", momentum=0.9, weight_decay=0.1),
    OptimizerSpec("adamw"),
    OptimizerSpec("adamw", betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1),
    OptimizerSpec("adam", weight_decay=0.1),
    OptimizerSpec("rmsprop", betas=(0.0, 0.9), eps=1e-4, momentum=0.0),
    OptimizerSpec("rmsprop", weight_decay=0.1, clip_norm=2.0),
    OptimizerSpec("adamw", clip_norm=2.0),
    OptimizerSpec("sgd", clip_norm=2.0),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_a_hundred_steps_equal_torch_in_every_run(
    spec: OptimizerSpec, dtype: torch.dtype, tolerance: float
) -> None:
    shapes = ((3, 5), (3, 2, 6), (3,))  # two matrices and a scalar of three runs
    start = [torch.randn(shape, dtype=dtype) for shape in shapes]
    target = [torch.randn(shape, dtype=dtype) for shape in shapes]
    stacked = StackedOptimizer(spec, [w.clone() for w in start])
    singles = [[torch.nn.Parameter(w[run].clone()) for w in start] for run in range(3)]
    optimizers = [spec.build(single, 1.0) for single in singles]
    for step in range(100):
        rates = torch.tensor([1e-4, 1e-2, 5e-2]) * (1.0 - step / 200)
        noise = [torch.randn(shape, dtype=dtype) for shape in shapes]
        parts = zip(stacked.weights, target, noise, strict=True)
        stacked.step([w - t + e for w, t, e in parts], rates)
        for run, (single, optimizer) in enumerate(zip(singles, optimizers, strict=True)):
            optimizer.param_groups[0]["lr"] = float(rates[run])
            for weight, t, e in zip(single, target, noise, strict=True):
                weight.grad = weight.detach() - t[run] + e[run]
            spec.clip(single)
            optimizer.step()
    moved = []
    for k, (ours, before) in enumerate(zip(stacked.weights, start, strict=True)):
        expected = torch.stack([single[k].detach() for single in singles])
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)
        moved.append((expected - before).abs().mean())
    assert max(moved) > 0.1


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_rate_for_each_tensor_is_torchs_with_a_group_for_each(spec: OptimizerSpec) -> None:
    start = [torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)]
    rates = torch.tensor([[0.1, 0.01], [0.003, 0.05]], dtype=torch.float64)
    stacked = StackedOptimizer(spec, [w.clone() for w in start])
    singles = [[torch.nn.Parameter(w[run].clone()) for w in start] for run in range(2)]
    optimizers = [spec.build([{"params": [w]} for w in single], 1.0) for single in singles]  # type: ignore[misc]
    for _ in range(10):
        stacked.step([w.clone() for w in stacked.weights], rates)
        for own, single, optimizer in zip(rates, singles, optimizers, strict=True):
            for group, weight, rate in zip(optimizer.param_groups, single, own, strict=True):
                group["lr"], weight.grad = float(rate), weight.detach().clone()
            spec.clip(single)
            optimizer.step()
    for k, weights in enumerate(stacked.weights):
        torch.testing.assert_close(weights, torch.stack([single[k].detach() for single in singles]))


def test_the_first_adamw_step_is_the_rate_times_the_sign() -> None:
    weights, rates = torch.zeros(2, 3), torch.tensor([0.1, 0.5])
    gradient = torch.tensor([[2.0, -3.0, 0.01]] * 2)
    StackedOptimizer(OptimizerSpec("adamw"), [weights]).step([gradient], rates)
    torch.testing.assert_close(weights, -rates[:, None] * gradient.sign())


def test_clipping_shortens_only_the_runs_that_are_too_long() -> None:
    gradients = [torch.tensor([[3.0], [0.3]]), torch.tensor([[4.0], [0.4]])]  # norms 5 and 0.5
    clip(gradients, 1.0)
    torch.testing.assert_close(gradients, [torch.tensor([[0.6], [0.3]]), torch.tensor([[0.8], [0.4]])])


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_diverged_run_leaves_the_others_bit_for_bit(spec: OptimizerSpec) -> None:
    clean, mixed = (StackedOptimizer(spec, [torch.ones(3, 4)]) for _ in range(2))
    for _ in range(5):
        gradient = torch.randn(3, 4)
        clean.step([gradient.clone()], torch.full((3,), 0.1))
        mixed.step([gradient.index_fill(0, torch.tensor(1), float("nan"))], torch.full((3,), 0.1))
    assert torch.equal(mixed.weights[0][[0, 2]], clean.weights[0][[0, 2]])
    assert mixed.weights[0][1].isnan().all()
