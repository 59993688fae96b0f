"""Between a stable-baselines3 network and the layers of a policy."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

Layers = tuple[tuple[Tensor, Tensor], ...]


def linear_layers(modules: Iterable[nn.Module]) -> Layers:
    """Copies of weight and bias of every linear layer, in order."""
    return tuple(
        (layer.weight.detach().clone(), layer.bias.detach().clone())
        for layer in modules
        if isinstance(layer, nn.Linear)
    )


def put_layers(modules: Iterable[nn.Module], layers: Layers) -> None:
    """Set weight and bias of every linear layer, in order."""
    linear = [layer for layer in modules if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, (weight, bias) in zip(linear, layers, strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
