"""Stacked optimizers against torch's own, run by run."""

import pytest
import torch

from rl_lr.optimizers import OptimizerSpec, StackedOptimizer

SPECS = [
    OptimizerSpec("sgd", momentum=0.9),
    OptimizerSpec("sgd", momentum=0.0, weight_decay=0.1),
    OptimizerSpec("sgd", momentum=0.9, weight_decay=0.1),
    OptimizerSpec("adamw"),
    OptimizerSpec("adamw", betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_a_hundred_steps_equal_torch_in_every_run(
    spec: OptimizerSpec, dtype: torch.dtype, tolerance: float
) -> None:
    start, target = torch.randn(2, 3, 17, dtype=dtype).unbind()
    stacked = StackedOptimizer(spec, start.clone())
    singles = [torch.nn.Parameter(row.clone()) for row in start]
    optimizers = [spec.build([single], 1.0) for single in singles]
    for step in range(100):
        rates = torch.tensor([1e-4, 1e-2, 5e-2]) * (1.0 - step / 200)
        noise = torch.randn(3, 17, dtype=dtype)
        stacked.step(stacked.weights - target + noise, rates)
        for row, (single, optimizer) in enumerate(zip(singles, optimizers, strict=True)):
            optimizer.param_groups[0]["lr"] = float(rates[row])
            single.grad = single.detach() - target[row] + noise[row]
            optimizer.step()
    expected = torch.stack([single.detach() for single in singles])
    torch.testing.assert_close(stacked.weights, expected, rtol=tolerance, atol=tolerance)
    assert (expected - start).abs().mean() > 0.1


def test_the_first_adamw_step_is_the_rate_times_the_sign() -> None:
    weights, rates = torch.zeros(2, 3), torch.tensor([0.1, 0.5])
    gradient = torch.tensor([[2.0, -3.0, 0.01]] * 2)
    StackedOptimizer(OptimizerSpec("adamw"), weights).step(gradient, rates)
    torch.testing.assert_close(weights, -rates[:, None] * gradient.sign())


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_diverged_run_leaves_the_others_bit_for_bit(spec: OptimizerSpec) -> None:
    clean, mixed = (StackedOptimizer(spec, torch.ones(3, 4)) for _ in range(2))
    for _ in range(5):
        gradient = torch.randn(3, 4)
        clean.step(gradient, torch.full((3,), 0.1))
        mixed.step(gradient.index_fill(0, torch.tensor(1), float("nan")), torch.full((3,), 0.1))
    assert torch.equal(mixed.weights[[0, 2]], clean.weights[[0, 2]])
    assert mixed.weights[1].isnan().all()
