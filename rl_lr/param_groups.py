"""Parameter groups: their rates, and one for each tensor, so that each may have a rate of its own."""

import math
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

Group = dict[str, Any]


def base_rate(group: Group) -> float:
    """The base rate of a group: its ``initial_lr`` where a scheduler left one, else its ``lr``."""
    rate = float(group["initial_lr"] if "initial_lr" in group else group["lr"])
    if not (math.isfinite(rate) and rate > 0.0):
        raise ValueError(
            f"The base learning rate of a parameter group is {rate}: give the optimizer a positive lr, and freeze by "
            f"requires_grad_(False) what is not to be trained."
        )
    return rate


def _is_share(rate: float, of: float) -> bool:
    """Whether one rate is a round multiple or fraction of another, as somebody writes them: to three digits."""
    ratios = (rate / of, of / rate)
    return any(math.isclose(ratio, float(f"{ratio:.3g}"), rel_tol=1e-6) for ratio in ratios)


class GroupRates:
    """The rates of an optimizer's parameter groups: what each began with, times a factor.

    Each base rate is left in its group as ``initial_lr``, torch's own custom, so that a checkpoint of
    the optimizer alone still tells what the rate was before it was scheduled.

    Args:
        optimizer: whose rates are set.
        split: whether every parameter gets a group, and so a rate, of its own.
    """

    def __init__(self, optimizer: Optimizer, split: bool) -> None:
        self._optimizer, self._split = optimizer, split
        self._parted: list[Group] = []  # the groups that there were, if they were split
        if split:
            self._parted = [group | {"initial_lr": base_rate(group)} for group in optimizer.param_groups]
            optimizer.param_groups[:] = apart(optimizer.param_groups)
        self._bases: list[float] = []
        self._written: list[float] = []
        self._read_bases()

    @property
    def bases(self) -> list[float]:
        """Base rate of each group."""
        if len(self._optimizer.param_groups) != len(self._bases):
            self._read_bases()
        return self._bases

    def at(self, value: float, factors: list[float]) -> list[float]:
        """Base rates times ``value`` times each group's factor.

        One factor serves all groups. Where every parameter has one, groups added later have their
        geometric mean.
        """
        bases = self._bases
        if len(self._optimizer.param_groups) != len(bases):  # as in bases: in every step a call more is felt
            self._read_bases()
        if not self._split:
            scale = value * factors[0]
            return [base * scale for base in bases]
        if len(factors) < len(bases):
            usual = math.prod(factor ** (1.0 / len(factors)) for factor in factors)
            factors = factors + [usual] * (len(bases) - len(factors))
        return [base * (value * factor) for base, factor in zip(bases, factors, strict=True)]

    def write(self, value: float, factors: list[float]) -> None:
        """Set the rate of every group, as :meth:`at` tells it."""
        self._law = value, factors
        self._written = self.at(value, factors)
        self.write_again()

    def write_again(self) -> None:
        """Set what was written last, whatever became of it; a group added since has its rate too."""
        groups, rates = self._optimizer.param_groups, self._written
        if len(groups) != len(rates):
            self._check_none_lost()
            rates = self._written = self.at(*self._law)
        for group, rate in zip(groups, rates, strict=True):
            if isinstance(now := group["lr"], Tensor):  # torch's own rule: filled in place
                now.fill_(rate)
            else:
                group["lr"] = rate

    def joined(self, groups: list[Group]) -> list[Group]:
        """Groups of the optimizer's state as they were before they were split."""
        return joined(groups, self._parted)

    def put_back(self) -> None:
        """Leave the optimizer with the base rates and the groups that it had; later groups stay."""
        if len(self._optimizer.param_groups) >= len(self._bases):
            self.write(1.0, [1.0] * len(self.bases))
        groups = self._optimizer.param_groups
        groups[:] = self.joined(groups)
        for group, before in zip(groups, self._parted, strict=False):
            if isinstance(before["lr"], Tensor):  # the user's own, of which each parameter had a copy
                group["lr"] = before["lr"].copy_(group["lr"])
        for group in groups:
            group.pop("initial_lr", None)
        self._parted = []

    def _check_none_lost(self) -> None:
        left, had = len(self._optimizer.param_groups), len(self._bases)
        if left < had:
            raise ValueError(
                f"The optimizer has lost parameter groups while rl-lr sets their rates, {left} of {had} are "
                f"left: detach() the scheduler first, and build another for what stays."
            )

    def _read_bases(self) -> None:
        """A group added later brings its own, or shares the tensor that holds an earlier one's."""
        groups = self._optimizer.param_groups
        for index in range(len(self._bases), len(groups)):
            rate = groups[index]["lr"]
            shared = [k for k in range(index) if isinstance(rate, Tensor) and groups[k]["lr"] is rate]
            base = self._bases[shared[0]] if shared else self._base_of(groups[index])
            self._bases.append(base)
            groups[index]["initial_lr"] = base

    def _base_of(self, group: Group) -> float:
        """A later group's rate; or what it comes to if it was reckoned from what another group's is at the time.

        Who adds layers in mid-run often gives them a tenth of the rate that the optimizer has then, which is not its
        base rate. It tells itself by being a round share of the one and not of the other.
        """
        rate = base_rate(group)
        if "initial_lr" not in group and not any(_is_share(rate, base) for base in self._bases):
            for base, now in zip(self._bases, self._written, strict=False):
                if _is_share(rate, now):
                    return base * (rate / now)
        return rate


def apart(groups: list[Group]) -> list[Group]:
    """Groups, of an optimizer or of its state, as one for each of their parameters.

    >>> apart([{"params": [0, 1], "lr": 0.1}])
    [{'params': [0], 'lr': 0.1}, {'params': [1], 'lr': 0.1}]
    """
    return [_copy(group) | {"params": [parameter]} for group in groups for parameter in group["params"]]


def joined(groups: list[Group], parts: list[Group]) -> list[Group]:
    """Groups of one parameter each, of an optimizer or of its state, as the groups that they were parted from.

    What else a group holds is taken from the first of those that become one; one that had no parameter stays.

    >>> before = [{"params": [0, 1], "lr": 0.1}, {"params": [], "lr": 0.2}]
    >>> joined([{"params": [0], "lr": 0.3}, {"params": [1], "lr": 0.4}, {"params": [2], "lr": 0.5}], before)
    [{'params': [0, 1], 'lr': 0.3}, {'params': [], 'lr': 0.2}, {'params': [2], 'lr': 0.5}]
    """
    whole: list[Group] = []
    start = 0
    for before in parts:
        part = groups[start : start + len(before["params"])]
        whole.append((part or [before])[0] | {"params": [p for group in part for p in group["params"]]})
        start += len(part)
    return whole + groups[start:]


def _copy(group: Group) -> Group:
    """A rate that is a tensor is written in place: each group needs its own."""
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in group.items()}
