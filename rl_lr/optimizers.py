"""Optimizers twice over: torch's own for one run, and the same update for stacked runs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

CENTRES = {"sgd": 0.05, "adam": 3e-3, "adamw": 3e-3, "rmsprop": 1e-3}
"""A rate that a person might start from with each optimizer, whatever the network: ×1 of comparisons."""


@dataclass(frozen=True)
class OptimizerSpec:
    """Which optimizer trains a task's network, and the rate that a person would start from."""

    kind: Literal["sgd", "adam", "adamw", "rmsprop"] = "adamw"
    """SGD with heavy-ball momentum, Adam, AdamW, or RMSprop."""
    lr: float = 3e-3
    """Centre of the base rates: ×1 in every comparison."""
    momentum: float = 0.9
    """SGD and RMSprop."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam and AdamW; RMSprop's smoothing constant is the second."""
    eps: float = 1e-8
    """All but SGD."""
    weight_decay: float = 0.0
    """Decoupled for AdamW, added to the gradient for the others."""
    clip_norm: float = math.inf
    """Longest gradient of a run; a longer one is scaled down to this norm."""

    def __post_init__(self) -> None:
        """Refuse an optimizer that there is not, and a rate that no run can begin at."""
        if self.kind not in CENTRES:
            raise ValueError(f"OptimizerSpec.kind is {self.kind!r}: choose {', '.join(map(repr, CENTRES))}.")
        if not 0.0 < self.lr < math.inf:
            raise ValueError(f"OptimizerSpec.lr is {self.lr}: give a positive number.")

    def build(self, parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
        """The torch optimizer at base rate ``lr``; call :meth:`clip` before each of its steps."""
        decay = self.weight_decay
        if self.kind == "sgd":
            return torch.optim.SGD(parameters, lr, momentum=self.momentum, weight_decay=decay)
        if self.kind == "rmsprop":
            return torch.optim.RMSprop(
                parameters, lr, self.betas[1], self.eps, weight_decay=decay, momentum=self.momentum
            )
        family = torch.optim.AdamW if self.kind == "adamw" else torch.optim.Adam
        return family(parameters, lr, betas=self.betas, eps=self.eps, weight_decay=decay)

    def clip(self, parameters: Iterable[Tensor]) -> None:
        """Scale the gradient of one run down to ``clip_norm``, where it is longer."""
        if self.clip_norm < math.inf:
            torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)


class StackedOptimizer:
    """The optimizer of ``runs`` stacked runs, each at its own rate, updating in place.

    .. code-block:: text

        all but AdamW  g ← g + λ w
        SGD            d ← μ d + g
        RMSprop        v ← β₂ v + (1-β₂) g²        d ← μ d + g / (√v + ε)
        Adam, AdamW    m ← β₁ m + (1-β₁) g         v ← β₂ v + (1-β₂) g²
                       d ← (m / (1-β₁ᵗ)) / (√(v / (1-β₂ᵗ)) + ε)
        AdamW          w ← (1 - η λ) w
        all            w ← w - η d

    with w the weights, g the gradient after clipping, d the direction, η the run's or the tensor's rate, λ
    ``weight_decay``, t the step (Loshchilov & Hutter, 1711.05101, Algorithms 1 and 2).

    Args:
        spec: which optimizer.
        weights: the parameters, ``[runs, ...]`` each; changed by every :meth:`step`.
    """

    def __init__(self, spec: OptimizerSpec, weights: Sequence[Tensor]) -> None:
        self.spec, self.weights = spec, list(weights)
        self._direction = [torch.zeros_like(w) for w in weights]
        self._first = [torch.zeros_like(w) for w in weights] if spec.kind in ("adam", "adamw") else []
        self._second = [torch.zeros_like(w) for w in weights] if spec.kind != "sgd" else []
        self._steps = torch.zeros((), device=self.weights[0].device)

    @property
    def state(self) -> list[Tensor]:
        """What it remembers of each weight, shaped like it; changed in place by :meth:`step`."""
        return [*self._direction, *self._first, *self._second]

    def step(self, gradients: Sequence[Tensor], lr: Tensor) -> None:
        """Move every run by one step.

        Args:
            gradients: shaped like the weights; clipping changes them in place, as torch's does.
            lr: ``[runs]``, the rate of each run, or ``[runs, tensors]``, of each of its weights.
        """
        gradients, spec = list(gradients), self.spec
        if spec.clip_norm < math.inf:
            clip(gradients, spec.clip_norm)
        if spec.weight_decay and spec.kind != "adamw":
            gradients = list(torch._foreach_add(gradients, self.weights, alpha=spec.weight_decay))
        if spec.kind == "sgd":
            torch._foreach_mul_(self._direction, spec.momentum)
            torch._foreach_add_(self._direction, gradients)
        elif spec.kind == "rmsprop":
            self._rmsprop(gradients)
        else:
            self._adam(gradients)
        lr = lr.to(self.weights[0].dtype)
        if spec.weight_decay and spec.kind == "adamw":
            torch._foreach_mul_(self.weights, self._spread(1.0 - lr * spec.weight_decay))
        torch._foreach_addcmul_(self.weights, self._direction, self._spread(-lr))

    def _rmsprop(self, gradients: list[Tensor]) -> None:
        smoothing = self.spec.betas[1]
        torch._foreach_mul_(self._second, smoothing)
        torch._foreach_addcmul_(self._second, gradients, gradients, value=1.0 - smoothing)
        scale = torch._foreach_sqrt(self._second)
        torch._foreach_add_(scale, self.spec.eps)
        torch._foreach_mul_(self._direction, self.spec.momentum)
        torch._foreach_addcdiv_(self._direction, gradients, scale)

    def _adam(self, gradients: list[Tensor]) -> None:
        """The direction as torch's fused kernel writes it: a step of rate -1 from nothing.

        A decay of -1 at that rate takes away what the direction was before, in the same pass.
        """
        self._steps += 1
        torch._fused_adamw_(
            self._direction,
            [g.contiguous() for g in gradients],  # the kernel looks at no strides
            self._first,
            self._second,
            [],
            [self._steps] * len(gradients),
            lr=-1.0,
            beta1=self.spec.betas[0],
            beta2=self.spec.betas[1],
            weight_decay=-1.0,
            eps=self.spec.eps,
            amsgrad=False,
            maximize=False,
        )

    def _spread(self, values: Tensor) -> list[Tensor]:
        """``[runs]`` or ``[runs, tensors]`` as views that multiply each of the weights run by run."""
        columns = values.view(len(values), -1).expand(-1, len(self.weights)).unbind(1)
        return [own.view(-1, *[1] * (w.dim() - 1)) for own, w in zip(columns, self.weights, strict=True)]


def clip(gradients: list[Tensor], norm: float) -> None:
    """Scale down the gradient of every run that is longer than ``norm``, in place.

    As ``torch.nn.utils.clip_grad_norm_``: ``g ← g · min(1, norm / (|g| + 10⁻⁶))``.
    """
    squares = [torch.linalg.vector_norm(g.reshape(len(g), -1), dim=1).square() for g in gradients]
    scale = (norm / (torch.stack(squares).sum(dim=0).sqrt() + 1e-6)).clamp_max(1.0)
    torch._foreach_mul_(gradients, [scale.view(-1, *[1] * (g.dim() - 1)) for g in gradients])
