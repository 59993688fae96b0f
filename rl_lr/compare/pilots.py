"""What flies beside the policy: controls that would expose a false claim."""

import torch
from torch import Tensor

from rl_lr.policy import Policy
from rl_lr.signals import SIGNALS


class Blind:
    """The policy on the signals of *other* runs: shuffled across runs at every decision.

    If the policy lived by what all runs have in common, its place in the run above all, it would
    do as well blind.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy, self._generator = policy, torch.Generator().manual_seed(0)

    def act(self, signals: Tensor) -> Tensor:
        """Actions ``[runs]``."""
        return self.policy.act(signals[torch.randperm(len(signals), generator=self._generator)])


class Replay:
    """The same offsets for every run, whatever happens: a mean curve, decision by decision.

    Args:
        actions: the action of each decision.
    """

    def __init__(self, actions: tuple[float, ...]) -> None:
        self._actions = iter(actions)

    def act(self, signals: Tensor) -> Tensor:
        """Actions ``[runs]``, all alike."""
        return torch.full((len(signals),), next(self._actions))


class Rule:
    """Raise the rate while cos(g, u) says that the last step still descended, else lower it."""

    def act(self, signals: Tensor) -> Tensor:
        """Half of the largest change up or down, ``[runs]``."""
        return 0.5 * signals[:, SIGNALS.index("hypergradient")].sign()


def untrained(policy: Policy) -> Policy:
    """A policy of the same shape with the weights that training starts from."""
    generator = torch.Generator().manual_seed(0)
    layers = []
    for index, (weight, bias) in enumerate(policy.layers):
        gain = 0.01 if index == len(policy.layers) - 1 else 2**0.5  # as stable-baselines3 begins
        fresh = torch.nn.init.orthogonal_(torch.empty_like(weight), gain, generator=generator)
        layers.append((fresh, torch.zeros_like(bias)))
    return Policy(tuple(layers), policy.control, {}, "untrained")
