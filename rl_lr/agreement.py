"""What the processes that train one network agree on."""

from collections.abc import Callable

import torch
from torch import Tensor

Agree = Callable[[Tensor], Tensor]
"""The mean of a tensor over all processes; all of them must call it."""


def felt_loss(loss: Tensor | float | None, agree: Agree | None, offset: Tensor) -> Tensor | float | None:
    """The loss that all rows of a network feel: of this process alone, or the mean over those that have one.

    Args:
        loss: of this process, a scalar, or None.
        agree: what processes agree by, in which case all of them must call this; None where there is one.
        offset: ``[rows]``, where the controller is.

    Returns:
        ``[rows]`` on an accelerator; on the CPU a plain number, which costs least; None if a process
        that is alone has none.
    """
    if agree is not None:
        loss = _mean(loss, agree, offset.device)
    if loss is None or offset.is_cpu:
        return None if loss is None else float(loss.item() if isinstance(loss, Tensor) else loss)
    return torch.as_tensor(loss, device=offset.device).detach().view(1).expand_as(offset)


def _mean(loss: Tensor | float | None, agree: Agree, device: torch.device) -> Tensor:
    """Mean over the processes that have a loss; all take part, with one or without."""
    own = torch.zeros(2, device=device)
    if loss is not None:
        own = torch.stack((torch.as_tensor(loss).detach().to(own).reshape(()), torch.ones((), device=device)))
    total, share = agree(own).unbind()
    return total / share
