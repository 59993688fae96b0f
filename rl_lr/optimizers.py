"""Optimizers twice over: torch's own for one run, and the same update for stacked runs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.optim.adamw import adamw


@dataclass(frozen=True)
class OptimizerSpec:
    """Which optimizer trains a task's network, and the rate that a person would start from."""

    kind: Literal["sgd", "adamw"] = "adamw"
    """SGD with heavy-ball momentum, or AdamW."""
    lr: float = 3e-3
    """Centre of the base rates: ×1 in every comparison."""
    momentum: float = 0.9
    """SGD only."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW only."""
    eps: float = 1e-8
    """AdamW only."""
    weight_decay: float = 0.0
    """Decoupled for AdamW, added to the gradient for SGD."""

    def build(self, parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
        """The torch optimizer at base rate ``lr``."""
        if self.kind == "sgd":
            return torch.optim.SGD(parameters, lr, momentum=self.momentum, weight_decay=self.weight_decay)
        return torch.optim.AdamW(
            parameters, lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay
        )


class StackedOptimizer:
    """The optimizer of ``runs`` stacked runs, each at its own rate, updating in place.

    .. code-block:: text

        SGD     m ← μ m + g + λ w          w ← w - η m          (m ← g at the first step)
        AdamW   m ← β₁ m + (1-β₁) g        v ← β₂ v + (1-β₂) g²
                w ← (1 - η λ) w - η (m / (1-β₁ᵗ)) / (√(v / (1-β₂ᵗ)) + ε)

    with w the weights, g the gradient, η the run's rate, λ ``weight_decay``, t the step (AdamW:
    Loshchilov & Hutter, 1711.05101, Algorithm 2). AdamW's direction is the step that torch's own
    fused kernel makes from 0 at rate 1, so only the rates per run are ours. Moments and scratch
    are allocated once, because fresh pages cost more than the arithmetic on them.

    Args:
        spec: which optimizer.
        weights: ``[runs, parameters]``; changed by every :meth:`step`.
    """

    def __init__(self, spec: OptimizerSpec, weights: Tensor) -> None:
        self.spec, self.weights = spec, weights
        self._first = torch.zeros_like(weights)
        self._second = torch.zeros_like(weights) if spec.kind == "adamw" else None
        self._direction = torch.empty_like(weights)
        self._steps = torch.zeros((), device=weights.device)

    def step(self, gradient: Tensor, lr: Tensor) -> None:
        """Move every run by one step; ``gradient`` ``[runs, parameters]``, ``lr`` ``[runs]``."""
        eta = lr.to(self.weights.dtype)[:, None]
        if self._second is None:
            self._sgd(gradient, eta)
        else:
            self._adamw(gradient, self._second, eta)

    def _sgd(self, gradient: Tensor, eta: Tensor) -> None:
        self._first.mul_(self.spec.momentum).add_(gradient)
        if self.spec.weight_decay:
            self._first.add_(self.weights, alpha=self.spec.weight_decay)
        self.weights.addcmul_(self._first, eta, value=-1.0)

    def _adamw(self, gradient: Tensor, second: Tensor, eta: Tensor) -> None:
        adamw(
            [self._direction.zero_()],
            [gradient],
            [self._first],
            [second],
            [],
            [self._steps],
            fused=True,
            amsgrad=False,
            beta1=self.spec.betas[0],
            beta2=self.spec.betas[1],
            lr=1.0,
            weight_decay=0.0,
            eps=self.spec.eps,
            maximize=False,
        )
        if self.spec.weight_decay:
            self.weights.mul_(1.0 - eta * self.spec.weight_decay)
        self.weights.addcmul_(self._direction, eta)
