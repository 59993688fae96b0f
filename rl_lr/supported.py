"""Which optimizers can be controlled: those whose update is proportional to ``lr``."""

import warnings

import torch
from torch.optim import Optimizer

SUPPORTED: tuple[type[Optimizer], ...] = (
    torch.optim.SGD,
    torch.optim.Adam,  # AdamW is one
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.SparseAdam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.ASGD,  # one step late
    torch.optim.Muon,
)
"""Optimizers of torch that are tested, their subclasses with them."""

_REFUSED: dict[type[Optimizer], str] = {
    torch.optim.LBFGS: "it reads lr before it computes the loss, and searches along a line itself",
    torch.optim.Rprop: "it keeps a step size for every weight and reads lr at its first step only",
    torch.optim.Adafactor: "it bounds lr by one over the root of the number of steps",
}

_SELF_TUNING = ("prodigy", "dadapt", "schedulefree", "dog", "mechanic", "learnedoptimizer")
"""What the names of optimizers have in them that choose their own step sizes."""


def refuse_self_tuning(optimizer: Optimizer) -> None:
    """Refuse an optimizer that chooses its own step sizes, also one that does so by another inside it."""
    name = type(optimizer).__name__
    if any(part in name.lower() for part in _SELF_TUNING):
        raise ValueError(
            f"{name} chooses its own step sizes, and two controllers would work against each other: "
            f"use it alone, or an optimizer such as AdamW or SGD with rl-lr."
        )


def check_optimizer(optimizer: Optimizer) -> None:
    """Refuse an optimizer that cannot be controlled, and warn of one that is not known.

    Raises:
        ValueError: if it has nothing to train, or ``lr`` is not its step size.
    """
    name = type(optimizer).__name__
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if not any(p.requires_grad and p.numel() for p in parameters):
        raise ValueError(
            "The optimizer has no trainable parameters: pass it parameters with requires_grad=True "
            "before the scheduler is built."
        )
    if not all("lr" in group for group in optimizer.param_groups):
        raise ValueError(
            f"{name} has no lr in its parameter groups, which is what rl-lr sets: use an optimizer such as AdamW or SGD."
        )
    reasons = [reason for kind, reason in _REFUSED.items() if isinstance(optimizer, kind)]
    if reasons:
        raise ValueError(f"{name} cannot be controlled: {reasons[0]}. Use an optimizer such as AdamW or SGD.")
    if not isinstance(optimizer, SUPPORTED):
        warnings.warn(
            f"{name} is not among the optimizers that rl-lr is tested with: it works if updates are "
            f"proportional to lr, and lr may change at every step.",
            stacklevel=3,
        )
