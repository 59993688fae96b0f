"""Iterate averaging: weights that remember the last few per cent of a run, however long it is.

The polynomial-decay average of Shamir & Zhang (Stochastic gradient descent for non-smooth optimization, 2013,
section 4). After step t = 1, 2, …

.. code-block:: text

    w̄ ← w̄ + (η + 1) / (t + η) · (w - w̄)

so that w̄ is w after the first step, and the share of w̄ that comes from before step s is about (s / t)^(η + 1): half
comes from the last 2 %, 95 % from the last 9 %. It needs no horizon. Where the rate is never annealed it takes away the
noise that annealing would.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

ETA = 32
"""η: the larger, the shorter the memory."""


@torch.no_grad()
def fold(averages: Sequence[Tensor], weights: Sequence[Tensor], step: int) -> None:
    """Take the weights after step ``step``, from 1, into their averages, in place.

    >>> average = [torch.zeros(1)]
    >>> for step, weight in enumerate((3.0, 6.0), start=1):
    ...     fold(average, [torch.tensor([weight])], step)
    ...     print(round(float(average[0]), 4))
    3.0
    5.9118
    """
    theirs = [weight.to(average.dtype) for average, weight in zip(averages, weights, strict=True)]
    torch._foreach_lerp_(list(averages), theirs, (ETA + 1) / (step + ETA))
