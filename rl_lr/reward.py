"""What a policy is paid: how far the training objective has come."""

from torch import Tensor

FLOOR = 0.003
"""Keeps an interpolated task from paying for nothing: below this share of the initial loss,
further progress hardly counts."""

WORST = 10.0
"""A diverged run ends at this multiple of its initial loss, and no run scores below it."""


def score(loss: Tensor, initial: Tensor) -> Tensor:
    """Standing of a run, in nats; lower is better.

    .. code-block:: text

        score = log(min(max(ℓ / ℓ₀, 0), WORST) + FLOOR)

    with ℓ the loss and ℓ₀ the loss of the initial weights on the same rows. The reward of a
    decision is the score's drop until the next one; with a discount of 1 the sum over a run is
    its final result, so a policy gains nothing from looking good early.

    >>> import torch
    >>> score(torch.tensor([1.0, 0.1, 0.0, float("nan")]), torch.tensor(1.0)).round(decimals=2).tolist()
    [0.0, -2.27, -5.81, 2.3]
    """
    ratio = (loss / initial).nan_to_num(WORST, WORST, WORST).clamp(0.0, WORST)
    return (ratio + FLOOR).log()
