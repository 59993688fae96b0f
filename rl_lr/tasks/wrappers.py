"""Wrappers of networks: a scale beside each output, directions for classes, the same function of other numbers."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Spread(nn.Module):
    """A network's outputs, and beside each a log scale that is the same for all rows."""

    def __init__(self, network: nn.Module, outputs: int) -> None:
        super().__init__()
        self.network, self.log_scale = network, nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, inputs]`` → ``[batch, 2 · outputs]``, the log scales last."""
        y: Tensor = self.network(x)
        return torch.cat((y, self.log_scale.expand_as(y)), dim=-1)


class Directions(nn.Module):
    """Logits are cosines between features and classes, times a sharpness (1703.07464 and many since).

    The loss does not depend on the scale of the weights, so what a step changes shrinks as they grow.
    """

    def __init__(self, linear: nn.Linear, sharpness: float) -> None:
        super().__init__()
        self.weight, self.sharpness = linear.weight, sharpness

    def forward(self, x: Tensor) -> Tensor:
        """``[..., features]`` → ``[..., classes]``."""
        normalize = nn.functional.normalize
        logits: Tensor = self.sharpness * normalize(x, dim=-1) @ normalize(self.weight, dim=-1).mT
        return logits


def with_directions(factory: Callable[[], nn.Module], sharpness: float) -> nn.Module:
    """A classifier whose last layer, a linear one, compares directions instead."""
    network = factory()
    name, last = list(network.named_children())[-1]
    assert isinstance(last, nn.Linear)
    setattr(network, name, Directions(last, sharpness))
    return network


class Rescaled(nn.Module):
    """The same function of other numbers: each parameter is stored divided by its own scale.

    Reparametrisation leaves the function and its initial value as they are, and moves the best
    learning rate; it keeps a policy from learning the usual size of weights.

    Args:
        inner: the network.
        log_scale: standard deviation of the log-normal scales, in nats.
        gain: factor on the initial weights of every matrix; this does change the function.
        head: another factor on those of the last one, which many begin near zero: then an update is
            large beside the weights though the step is small.
        seed: of the scales, which belong to the task: all its runs share them.
    """

    def __init__(
        self, inner: nn.Module, log_scale: float, gain: float = 1.0, head: float = 1.0, seed: int = 0
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        matrices = [parameter for parameter in inner.parameters() if parameter.dim() > 1]
        with torch.no_grad():
            for parameter in matrices:
                parameter.mul_(gain)
            for parameter in matrices[-1:]:
                parameter.mul_(head)
        scaled = [(m, name) for m in inner.modules() for name, _ in m.named_parameters(recurse=False)]
        for module, name in scaled if log_scale else []:
            scale = math.exp(log_scale * torch.randn((), generator=generator).item())
            nn.utils.parametrize.register_parametrization(module, name, _Scale(scale))
        self.inner = inner

    def forward(self, *inputs: Tensor) -> Tensor:
        """The inner network's output."""
        y: Tensor = self.inner(*inputs)
        return y


class _Scale(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, stored: Tensor) -> Tensor:
        return stored * self.scale

    def right_inverse(self, value: Tensor) -> Tensor:
        return value / self.scale
