"""What a policy is paid: how far the training objective has come."""

import torch
from torch import Tensor

FLOOR = 0.003
"""Keeps an interpolated task from paying for nothing: below this share of the initial loss,
further progress hardly counts."""

WORST = 10.0
"""A diverged run ends at this multiple of its initial loss, and no run scores below it."""


RELATIVE_FLOOR = 0.01
"""In :func:`relative_score`, the share of the way down below which runs of a group tie."""


def score(loss: Tensor, initial: Tensor) -> Tensor:
    """Standing of a run, in nats; lower is better.

    .. code-block:: text

        score = log(min(max(ℓ / ℓ₀, 0), WORST) + FLOOR)

    with ℓ the loss and ℓ₀ the loss of the initial weights on the same rows. The reward of a
    decision is the score's drop until the next one; with a discount of 1 the sum over a run is
    its final result, so a policy gains nothing from looking good early.

    >>> score(torch.tensor([1.0, 0.1, 0.0, float("nan")]), torch.tensor(1.0)).round(decimals=2).tolist()
    [0.0, -2.27, -5.81, 2.3]
    """
    ratio = (loss / initial).nan_to_num(WORST, WORST, WORST).clamp(0.0, WORST)
    return (ratio + FLOOR).log()


def relative_score(loss: Tensor, initial: Tensor) -> Tensor:
    """Standing of runs of one task among each other, in nats; lower is better.

    .. code-block:: text

        relative score = log(min((ℓ - ℓ*) / (ℓ₀ - ℓ*), WORST) + RELATIVE_FLOOR)

    with ℓ* the lowest loss of the group, along the last dimension. Where a loss cannot fall far,
    as in modelling text, :func:`score` hardly tells a good rate from a bad one; this does, so
    every task weighs the same in training.

    >>> relative_score(torch.tensor([2.0, 2.1, 4.0]), torch.tensor(4.0)).round(decimals=2).tolist()
    [-4.61, -2.81, 0.01]
    """
    best = loss.nan_to_num(torch.inf).amin(dim=-1, keepdim=True)
    way = (initial - best).clamp_min(1e-3 * initial.abs())
    ratio = ((loss - best) / way).nan_to_num(WORST, WORST, WORST).clamp(0.0, WORST)
    return (ratio + RELATIVE_FLOOR).log()


def paired_rewards(rewards: Tensor, final: Tensor, initial: Tensor) -> Tensor:
    """Rewards that pay each run by its standing within its group, which shares a task.

    The last reward settles the account with :func:`relative_score` instead of :func:`score`, and
    of every reward the mean of the others' at the same decision is taken off. The others hardly
    depend on this run's actions, so how hard the task is drops out of what a critic must learn.

    Args:
        rewards: drops of :func:`score`, ``[decisions, runs]``; at least two runs.
        final: loss of each run at its end, ``[runs]``.
        initial: loss of its initial weights, ``[runs]``.

    >>> paired_rewards(torch.zeros(1, 2), torch.tensor([1.0, 2.0]), torch.tensor([2.0, 2.0])).round(decimals=1)
    tensor([[ 3.9, -3.9]])
    """
    settled = score(final, initial) - relative_score(final, initial)
    rewards = torch.cat((rewards[:-1], rewards[-1:] + settled))
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards - others
