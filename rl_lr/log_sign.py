"""Numbers of any size as two of about 1: what learned optimizers see of gradients and losses."""

import torch
from torch import Tensor


def log_and_sign(x: Tensor, p: float = 10.0, through: bool = False) -> Tensor:
    """Size and sign apart, so that a network sees gradients of 1e-6 as well as those of 1.

    .. code-block:: text

        |x| ≥ e⁻ᵖ   (log|x| / p, sign x)
        else        (-1, eᵖ x)

    with x the number and p what is small (Andrychowicz et al., 1606.04474, appendix A). It is continuous.

    Args:
        x: ``[...]``, finite.
        p: nats; numbers below e⁻ᵖ count as small.
        through: whether derivatives flow back through it; as in the paper they do not: gradients are inputs, and
            not part of what is differentiated.

    Returns:
        ``[..., 2]``, same dtype.

    >>> log_and_sign(torch.tensor([1.0, -0.0067379, 1e-9]), p=10.0)
    tensor([[ 0.0000,  1.0000],
            [-0.5000, -1.0000],
            [-1.0000,  0.0000]])
    """
    x = x if through else x.detach()
    large = x.abs() >= torch.exp(torch.tensor(-p))
    size = torch.where(
        large, torch.where(large, x.abs(), 1.0).log() / p, -1.0
    )  # the inner one: 0 has no slope
    sign = torch.where(large, x.sign(), torch.exp(torch.tensor(p)) * x)
    return torch.stack((size, sign), dim=-1)
