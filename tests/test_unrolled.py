"""Pure steps are the engine's steps, and can be differentiated through."""

import pytest
import torch
from torch import Tensor, nn

from rl_lr.engine import Engine
from rl_lr.optimizers import OptimizerSpec
from rl_lr.tasks import TensorTask
from rl_lr.tasks.networks import Transformer, convnet
from rl_lr.tasks.tensors import cross_entropy, next_token
from rl_lr.unrolled import State, step

SPECS = [
    OptimizerSpec("sgd", weight_decay=0.1),
    OptimizerSpec("rmsprop", momentum=0.5, eps=1e-3),
    OptimizerSpec("adam", weight_decay=0.1, eps=1e-3),
    OptimizerSpec("adamw", weight_decay=0.1, eps=1e-3, clip_norm=0.5),
]


class Recurrent(nn.Module):
    """Reads rows of an image one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.lstm(x[:, 0])[0][:, -1])
        return y


def task(kind: str, spec: OptimizerSpec) -> TensorTask:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(32, 1, 8, 8, generator=generator), torch.arange(32) % 3
    tokens = torch.randint(5, (32, 6), generator=generator)
    if kind == "attention and layer norm":
        return TensorTask(kind, spec, 4, lambda: Transformer(5, 6, 8, 1), (tokens,), next_token)
    factory = {
        "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3)),
        "convolution and batch norm": lambda: convnet((1, 4), 8, 3, nn.GELU, norm=True, maximum=True),
        "recurrence": Recurrent,
    }[kind]
    return TensorTask(kind, spec, 4, factory, (images, labels), cross_entropy)


def engine(kind: str, spec: OptimizerSpec) -> Engine:
    return Engine(task(kind, spec), [0, 1])


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_chain_of_pure_steps_is_the_run_of_the_engine(spec: OptimizerSpec) -> None:
    fast, pure = engine("linear", spec), engine("linear", spec)
    state = State.start(tuple(pure.parameters.values()))
    for _ in range(50):
        lr = torch.tensor([1e-2, 1e-3])
        expected, _ = fast.step(lr)
        losses, state = step(pure, state, pure.draw(), lr)
        state = state.detached()
        torch.testing.assert_close(losses.detach(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(
    "kind", ["linear", "convolution and batch norm", "attention and layer norm", "recurrence"]
)
def test_the_last_loss_is_differentiable_in_the_rate_of_every_step(kind: str, spec: OptimizerSpec) -> None:
    runs = engine(kind, spec)
    runs.parameters = {name: p.double() for name, p in runs.parameters.items()}
    batches = [tuple(t.double() if t.is_floating_point() else t for t in runs.draw()) for _ in range(4)]

    def last_loss(log_rates: Tensor) -> Tensor:
        state = State.start(tuple(runs.parameters.values()))
        for batch, rate in zip(batches, log_rates.exp(), strict=True):
            losses, state = step(runs, state, batch, rate)
        return losses.sum()  # before the last step, whose rate does not count

    log_rates = torch.full((4, 2), -4.0, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(last_loss(log_rates), log_rates)
    assert (gradient[-1] == 0).all()
    for index in range(3):
        nudge = torch.zeros_like(log_rates)
        nudge[index, 0] = 1e-5
        slope = (last_loss(log_rates + nudge) - last_loss(log_rates - nudge)) / 2e-5
        assert gradient[index, 0].item() == pytest.approx(slope.item(), rel=1e-3, abs=1e-7)
        assert gradient[index, 0] != 0
