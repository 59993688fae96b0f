"""Policies made of policies: the mean of several, whose errors cancel where they do not share them, and a bolder one."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rl_lr.policy import Policy
from rl_lr.signals import SIGNALS

Layers = tuple[tuple[Tensor, Tensor], ...]


def mean_policy(members: Sequence[Policy]) -> Policy:
    """A policy whose outputs are the mean of its members' outputs, from networks side by side.

    .. code-block:: text

        hidden layers    W = diag(W¹, …, Wⁿ)  (the first, which all share the input of: W¹ above … above Wⁿ)
        last layer       W = (W¹, …, Wⁿ) / n, b = (b¹ + … + bⁿ) / n

    with Wⁱ, bⁱ weight and bias of member i. It is a policy like any other, as wide as its members
    together; what is no weight is the last member's.

    Args:
        members: at least one, with hidden layers, alike in signals, depth, control constants and choices.

    Raises:
        ValueError: if they are not alike.
    """
    return _side_by_side(members, 1.0 / len(members))


def lifted(policy: Policy, lift: float, lift_short: float | None = None) -> Policy:
    """The policy, with ``lift`` added to its actions between the warm-up and the last fifth of a run.

    A policy learns while it strays, and straying makes low rates prudent; what it does without straying may
    be a little bolder, in short runs most of all. More units of its first layers tell what part of which run it is in:

    .. code-block:: text

        lift / 2 · (A + B)                                              A = tanh 20 (½ - w), B = tanh 20 (0.6 - p)
        + (lift_short - lift) / 2 · (1 + tanh(2 C + 5 (A + B - 2)))     C = tanh -3 r

    with w the signal of the warm-up, 0 or 1, p that of the progress, 0.6 at four fifths of the run, and r that of its
    length: ``lift_short`` at 250 steps, ``lift`` at 4000, half of each at 1000.

    Args:
        policy: with hidden layers, and any action, or it stays as it is.
        lift: in units of the largest change of the offset.
        lift_short: the same in short runs, by a policy of two hidden layers or more; None for no other.
    """
    more = 0.0 if lift_short is None else lift_short - lift
    if policy.choices or not (lift or more):
        return policy
    policy = policy.seeing_all() if more else policy
    added = [_lift_layers(policy, lift), *([_short_lift_layers(policy, more)] if more else [])]
    return _side_by_side([*(Policy(layers, policy.control) for layers in added), policy], 1.0)


def _lift_layers(policy: Policy, lift: float) -> Layers:
    """A network as deep as the policy's whose output is the lift."""
    carried, whole = torch.ones(1, 2), 2.0  # the sum of both units, and what it is where both are 1
    carrying = []
    for _ in policy.layers[1:-1]:
        carrying.append((0.1 * carried, torch.zeros(1)))  # small, where tanh is nearly straight
        carried, whole = torch.ones(1, 1), math.tanh(0.1 * whole)
    return (_units(policy, "in_warmup", "progress"), *carrying, (carried * lift / whole, torch.zeros(1)))


def _short_lift_layers(policy: Policy, more: float) -> Layers:
    """A network as deep as the policy's whose output is what the lift of short runs is more."""
    gate = torch.tensor([[5.0, 5.0, 2.0]]), torch.tensor([-10.0])
    carrying, whole = [], 1.0
    for _ in policy.layers[2:-1]:
        carrying.append((0.1 * torch.ones(1, 1), torch.zeros(1)))
        whole = math.tanh(0.1 * whole)
    first = _units(policy, "in_warmup", "progress", "run_length")
    return (first, gate, *carrying, (torch.full((1, 1), 0.5 * more / whole), torch.tensor([0.5 * more])))


def _units(policy: Policy, *names: str) -> tuple[Tensor, Tensor]:
    """A first layer of units that are 1 before the place where each of these signals turns, and -1 behind it."""
    turns = {"in_warmup": (20.0, 0.5), "progress": (20.0, 0.6), "run_length": (3.0, 0.0)}
    weight = torch.zeros(len(names), policy.inputs)
    for unit, name in enumerate(names):
        weight[unit, SIGNALS.index(name)] = -turns[name][0]
    return weight, torch.tensor([turns[name][0] * turns[name][1] for name in names])


def _side_by_side(members: Sequence[Policy], share: float) -> Policy:
    """Outputs are the members' outputs times ``share``, summed up."""
    last = members[-1]
    for other in members:
        if not _alike(other, last):
            raise ValueError(
                f"The policies {other.name!r} and {last.name!r} differ in signals, depth, control constants or "
                f"choices, or have no hidden layer: only policies that were trained alike have a mean."
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
        len(depths) == 1
        and min(depths) > 1
        and (one.inputs, one.control, one.choices) == (other.inputs, other.control, other.choices)
    )
