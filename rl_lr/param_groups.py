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
            f"The base learning rate of a parameter group is {rate}: give the optimizer a positive lr."
        )
    return rate


def set_rate(group: Group, rate: float) -> None:
    """Torch's own rule: fill a tensor rate in place, else assign a plain float."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def split_groups(optimizer: Optimizer) -> list[int]:
    """Exchange every group of an optimizer for one group per parameter, alike in all else.

    Returns:
        How many parameters each group had, what :func:`join_groups` needs.
    """
    counts = [len(group["params"]) for group in optimizer.param_groups]
    optimizer.param_groups[:] = [
        _copy(group) | {"params": [parameter]}
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    return counts


def join_groups(optimizer: Optimizer, counts: list[int]) -> None:
    """Put groups together again as they were; groups added since stay as they are."""
    optimizer.param_groups[:] = joined(optimizer.param_groups, counts)


def joined(groups: list[Group], counts: list[int]) -> list[Group]:
    """Groups of one parameter each, of an optimizer or of its state, as groups of ``counts`` parameters.

    What else a group holds is taken from the first of those that become one.

    >>> joined([{"params": [0], "lr": 0.1}, {"params": [1], "lr": 0.2}, {"params": [2], "lr": 0.3}], [2])
    [{'params': [0, 1], 'lr': 0.1}, {'params': [2], 'lr': 0.3}]
    """
    whole, start = [], 0
    for count in counts:
        part = groups[start : start + count]
        whole.append(part[0] | {"params": [p for group in part for p in group["params"]]})
        start += count
    return whole + groups[start:]


def _copy(group: Group) -> Group:
    """A rate that is a tensor is written in place: each group needs its own."""
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in group.items()}
