"""What is measured around an optimizer's steps."""

import pytest
import torch
from torch import Tensor, nn

from rl_lr import Policy, RLScheduler
from rl_lr.measuring import Measuring


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))


def fit(weights: nn.Parameter, complexes: bool) -> RLScheduler:
    """Linear regression on complex numbers, by one kind of parameter or the other; 120 steps."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD([weights], 1e-3, momentum=0.9)
    scheduler = RLScheduler(optimizer, 120)
    target = torch.randn(32, 1, dtype=torch.cfloat, generator=generator)
    for _ in range(120):
        x = torch.randn(16, 32, dtype=torch.cfloat, generator=generator)
        seen = weights if complexes else torch.view_as_complex(weights)
        loss = (x @ (seen - target)).abs().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
    return scheduler


def test_complex_weights_are_controlled_as_the_pairs_of_real_numbers_that_they_are() -> None:
    start = 0.01 * torch.randn(32, 1, dtype=torch.cfloat, generator=torch.Generator().manual_seed(0))
    one = fit(nn.Parameter(start.clone()), complexes=True)
    other = fit(nn.Parameter(torch.view_as_real(start).clone()), complexes=False)
    assert one.latest_signals is not None
    torch.testing.assert_close(one.latest_signals, other.latest_signals, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(one.controller.offset, other.controller.offset, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("granularity", ["network", "tensor"])
def test_a_maximized_objective_has_the_signals_of_its_negative_minimized(granularity: str) -> None:
    seen: list[Tensor] = []
    for maximize in (False, True):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 1e-3, maximize=maximize)
        scheduler = RLScheduler(optimizer, 100, granularity=granularity)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(1)
        for _ in range(100):
            loss = (model(torch.randn(16, 8, generator=generator)) - 1.0).square().mean()
            optimizer.zero_grad()
            (-loss if maximize else loss).backward()
            optimizer.step()
            scheduler.step(loss)
        assert scheduler.latest_signals is not None
        seen.append(scheduler.latest_signals)
    torch.testing.assert_close(seen[0], seen[1])


def test_layers_that_are_frozen_and_thawed_leave_the_coordinates_of_others_where_they_are() -> None:
    model = network()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    measuring = Measuring(optimizer, "network")
    before = measuring.weights()
    model[0].requires_grad_(True)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3))]})
    assert torch.equal(measuring.weights(), before)
    model[2].requires_grad_(False)
    assert torch.equal(measuring.weights(), before)
    model.requires_grad_(False)
    assert measuring.gradients().count_nonzero() == 0


@pytest.mark.filterwarnings("ignore:Using backward")
def test_gradients_of_gradients_leave_no_graph_behind() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    scheduler = RLScheduler(optimizer, 60, Policy.keep())
    for _ in range(40):
        loss = model(torch.randn(16, 8)).square().mean()
        loss.backward(create_graph=True)
        optimizer.step()
        for parameter in model.parameters():
            parameter.grad = None
        scheduler.step(loss)
        tensors = scheduler.controller.state_dict()["signals"]
        assert not any(one.requires_grad for one in tensors["history"].values())
        assert not any(one.requires_grad for one in tensors["before"] or ())
