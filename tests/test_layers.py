"""Layers answered for all runs at once, against torch's own run by run."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from rl_lr.layers import StackedLayers

RUNS = 3


class Pool(nn.Module):
    """Maximum over windows, as a user's module would call it."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(x, 2)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "padded": (lambda: nn.Conv2d(3, 4, 3, padding=1), (5, 3, 8, 8)),
    "strided, no bias": (lambda: nn.Conv2d(2, 3, (3, 2), stride=(2, 1), bias=False), (4, 2, 9, 7)),
    "dilated groups": (lambda: nn.Conv2d(4, 8, 3, groups=2, dilation=2), (2, 4, 8, 8)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, padding=(1, 0)), (2, 4, 6, 6)),
    "pool": (lambda: nn.Sequential(nn.Conv2d(1, 2, 1), nn.MaxPool2d((2, 3)), nn.Tanh()), (4, 1, 6, 6)),
    "pool with ties": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), Pool()), (4, 1, 6, 6)),
    "mean pool": (lambda: nn.Sequential(nn.Conv2d(1, 2, 1), nn.AvgPool2d((2, 3)), nn.Tanh()), (4, 1, 6, 6)),
    "two layers": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 2, 3, padding=1), nn.Flatten()
        ),
        (5, 1, 8, 8),
    ),
    "passed on: overlapping pool": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 1), nn.MaxPool2d(3, stride=2)),
        (2, 1, 7, 7),
    ),
    "passed on: same padding": (lambda: nn.Conv2d(1, 2, 3, padding="same"), (2, 1, 5, 5)),
}


def loss(network: nn.Module, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    with StackedLayers():
        y: Tensor = functional_call(network, parameters, x)
    return (y * y.sin()).sum() + y.square().mean()


@pytest.mark.parametrize("shared", [False, True], ids=["own images", "shared images"])
@pytest.mark.parametrize("name", NETWORKS)
def test_values_and_gradients_are_those_of_every_run(name: str, shared: bool) -> None:
    build, shape = NETWORKS[name]
    networks = [build() for _ in range(RUNS)]
    names = [name for name, _ in networks[0].named_parameters()]
    stacked = {
        n: torch.stack([m.get_parameter(n).detach() for m in networks]).requires_grad_() for n in names
    }
    x = torch.randn(shape if shared else (RUNS, *shape))
    x = x.requires_grad_()
    batched = vmap(loss, in_dims=(None, 0, None if shared else 0))
    values = batched(networks[0], stacked, x)
    gradients = torch.autograd.grad(values.sum(), [*stacked.values(), x])
    inward = torch.zeros_like(x)
    for run, network in enumerate(networks):
        rows = x if shared else x[run]
        y = network(rows)
        value = (y * y.sin()).sum() + y.square().mean()
        expected = torch.autograd.grad(value, [*network.parameters(), x])
        torch.testing.assert_close(values[run], value, rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(gradients[:-1], expected[:-1], strict=True):
            torch.testing.assert_close(ours[run], theirs, rtol=1e-4, atol=1e-5)
        inward += expected[-1]
    torch.testing.assert_close(gradients[-1], inward, rtol=1e-4, atol=1e-5)


def test_a_tie_sends_the_gradient_to_the_first_place_as_torch_does() -> None:
    x = torch.zeros(1, 1, 1, 2, 2, requires_grad=True)

    def pooled(image: Tensor) -> Tensor:
        with StackedLayers():
            return Pool()(image).sum()  # type: ignore[no-any-return]

    (gradient,) = torch.autograd.grad(vmap(pooled)(x).sum(), x)
    assert gradient.flatten().tolist() == [1.0, 0.0, 0.0, 0.0]


def test_second_derivatives_exist() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.MaxPool2d(2))
    weights = {name: p.detach()[None].clone() for name, p in network.named_parameters()}
    x = torch.randn(1, 2, 1, 6, 6)

    def value(weight: Tensor) -> Tensor:
        total: Tensor = vmap(loss, in_dims=(None, 0, 0))(network, weights | {"0.weight": weight}, x).sum()
        return total

    def slope(weight: Tensor, create_graph: bool = False) -> Tensor:
        weight = weight.detach().requires_grad_() if not create_graph else weight
        (gradient,) = torch.autograd.grad(value(weight), weight, create_graph=create_graph)
        return gradient

    weight, direction = weights["0.weight"].double(), torch.randn(1, 2, 1, 3, 3).double()
    weights, x = {name: p.double() for name, p in weights.items()}, x.double()
    leaf = weight.clone().requires_grad_()
    (second,) = torch.autograd.grad((slope(leaf, create_graph=True) * direction).sum(), leaf)
    step = 1e-6 * direction
    numeric = (slope(weight + step) - slope(weight - step)) / 2e-6
    torch.testing.assert_close(second, numeric, rtol=1e-4, atol=1e-6)
