"""What the processes that train one network agree on."""

from collections.abc import Callable

import torch
from torch import Tensor

Agree = Callable[[Tensor], Tensor]
"""The mean of a tensor over all processes; all of them must call it."""


def mean_loss(loss: Tensor | None, agree: Agree, device: torch.device) -> Tensor:
    """Mean over the processes that have a loss; all take part, with one or without."""
    own = torch.zeros(2, device=device)
    if loss is not None:
        own = torch.stack((loss.detach().to(own).reshape(()), torch.ones((), device=device)))
    total, share = agree(own).unbind()
    return total / share
