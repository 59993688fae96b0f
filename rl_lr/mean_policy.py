"""Policies made of policies: the mean of several, whose errors cancel where they do not share them, and a bolder one."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rl_lr.policy import Policy
from rl_lr.signals import NUM_SIGNALS, SIGNALS


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
    return _side_by_side(members, 1.0 / len(members))


def lifted(policy: Policy, lift: float) -> Policy:
    """The policy, with ``lift`` added to its actions between the warm-up and the last fifth of a run.

    A policy learns while it strays, and straying makes low rates prudent; what it does without straying may
    be a little bolder. Two more units of its first layer tell where in its run it is:

    .. code-block:: text

        lift / 2 · (tanh 20 (½ - w) + tanh 20 (0.6 - p))

    with w the signal of the warm-up, 0 or 1, and p that of the progress, 0.6 at four fifths of the run.

    Args:
        policy: with hidden layers, and any action, or it stays as it is.
        lift: in units of the largest change of the offset.
    """
    if not lift or policy.choices:
        return policy
    return _side_by_side([Policy(_lift_layers(len(policy.layers), lift), policy.control), policy], 1.0)


def _lift_layers(depth: int, lift: float) -> tuple[tuple[Tensor, Tensor], ...]:
    """A network of so many layers whose output is the lift."""
    place, sharpness = torch.zeros(2, NUM_SIGNALS), 20.0
    place[0, SIGNALS.index("in_warmup")] = place[1, SIGNALS.index("progress")] = -sharpness
    layers = [(place, sharpness * torch.tensor([0.5, 0.6]))]
    carried, whole = torch.ones(1, 2), 2.0  # the sum of both units, and what it is where both are 1
    for _ in range(depth - 2):
        layers.append((0.1 * carried, torch.zeros(1)))  # small, where tanh is nearly straight
        carried, whole = torch.ones(1, 1), math.tanh(0.1 * whole)
    return (*layers, (carried * lift / whole, torch.zeros(1)))


def _side_by_side(members: Sequence[Policy], share: float) -> Policy:
    """Outputs are the members' outputs times ``share``, summed up."""
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
            layers.append((share * torch.cat(weights, dim=1), share * torch.stack(biases).sum(dim=0)))
        else:
            weight = torch.block_diag(*weights) if depth else torch.cat(weights)
            layers.append((weight, torch.cat(biases)))
    return replace(last, layers=tuple(layers))


def _alike(one: Policy, other: Policy) -> bool:
    depths = {len(one.layers), len(other.layers)}
    return (
        len(depths) == 1 and min(depths) > 1 and (one.control, one.choices) == (other.control, other.choices)
    )
