"""From a stable-baselines3 network to the layers of a policy."""

from collections.abc import Iterable

from torch import Tensor, nn


def linear_layers(modules: Iterable[nn.Module]) -> tuple[tuple[Tensor, Tensor], ...]:
    """Copies of weight and bias of every linear layer, in order."""
    return tuple(
        (layer.weight.detach().clone(), layer.bias.detach().clone())
        for layer in modules
        if isinstance(layer, nn.Linear)
    )
