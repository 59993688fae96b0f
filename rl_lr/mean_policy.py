"""The mean of several policies, as one policy: errors that they do not share cancel."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from rl_lr.policy import Policy


def mean_policy(members: Sequence[Policy]) -> Policy:
    """A policy whose outputs are the mean of its members' outputs, from networks side by side.

    .. code-block:: text

        hidden layers    W = diag(W¹, …, Wⁿ)  (the first, which all share the input of: W¹ above … above Wⁿ)
        last layer       W = (W¹, …, Wⁿ) / n, b = (b¹ + … + bⁿ) / n

    with Wⁱ, bⁱ weight and bias of member i. It is a policy like any other, as wide as its members
    together; what is no weight is the last member's.

    Args:
        members: at least one, with hidden layers, alike in depth, control constants and choices.

    Raises:
        ValueError: if they are not alike.
    """
    last = members[-1]
    for other in members:
        if not _alike(other, last):
            raise ValueError(
                f"The policies {other.name!r} and {last.name!r} differ in depth, control constants or choices, "
                f"or have no hidden layer: only policies that were trained alike have a mean."
            )
    layers = []
    for depth, parts in enumerate(zip(*(member.layers for member in members), strict=True)):
        weights, biases = zip(*parts, strict=True)
        if depth == len(last.layers) - 1:
            layers.append((torch.cat(weights, dim=1) / len(members), torch.stack(biases).mean(dim=0)))
        else:
            weight = torch.block_diag(*weights) if depth else torch.cat(weights)
            layers.append((weight, torch.cat(biases)))
    return replace(last, layers=tuple(layers))


def _alike(one: Policy, other: Policy) -> bool:
    depths = {len(one.layers), len(other.layers)}
    return (
        len(depths) == 1 and min(depths) > 1 and (one.control, one.choices) == (other.control, other.choices)
    )
