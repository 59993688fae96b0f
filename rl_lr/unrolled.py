"""Steps of stacked runs as pure functions: differentiable from the last loss to rates and first weights.

:class:`rl_lr.engine.Engine` overwrites its weights, because that is fast. Here every step returns
new ones and leaves the old, so that autograd can go back through a whole chain of them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rl_lr.engine import Engine
from rl_lr.optimizers import OptimizerSpec

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class State:
    """Stacked runs between two steps; tensors are ``[runs, ...]``, in the order of the parameters."""

    weights: Tensors
    """The parameters."""
    direction: Tensors
    """Momentum of SGD and RMSprop."""
    first: Tensors
    """Running mean of the gradient (Adam, AdamW)."""
    second: Tensors
    """Running mean of its square (all but SGD)."""
    steps: int = 0
    """Steps made."""

    @classmethod
    def start(cls, weights: Tensors) -> "State":
        """Before the first step."""
        zeros = tuple(torch.zeros_like(w) for w in weights)
        return cls(weights, zeros, zeros, zeros)

    def detached(self) -> "State":
        """The same numbers with their history cut off, as truncated back-propagation wants it."""
        groups = (self.weights, self.direction, self.first, self.second)
        weights, direction, first, second = (tuple(t.detach() for t in group) for group in groups)
        return State(weights, direction, first, second, self.steps)


def step(engine: Engine, state: State, batch: Tensors, lr: Tensor) -> tuple[Tensor, State]:
    """One optimizer step of every run of ``engine``'s task, from ``state`` instead of its weights.

    Args:
        engine: whose task and optimizer; its own weights are neither used nor changed.
        state: where the runs are.
        batch: rows of every run, ``[runs, batch, ...]`` each: :meth:`Engine.draw`.
        lr: ``[runs]``, the rate of each run.

    Returns:
        The losses ``[runs]`` before the step, and the state after it.
    """
    weights = tuple(w if w.requires_grad else w.detach().requires_grad_() for w in state.weights)
    losses = engine.losses(dict(zip(engine.parameters, weights, strict=True)), batch)
    gradients = torch.autograd.grad(losses.sum(), weights, create_graph=True)
    return losses, update(engine.task.optimizer, state, gradients, lr)


def update(spec: OptimizerSpec, state: State, gradients: Tensors, lr: Tensor) -> State:
    """The update of :class:`rl_lr.optimizers.StackedOptimizer`, formula by formula."""
    if spec.clip_norm < math.inf:
        squares = [g.reshape(len(g), -1).square().sum(dim=1) for g in gradients]
        norm = torch.stack(squares).sum(dim=0).sqrt()
        scale = (spec.clip_norm / (norm + 1e-6)).clamp_max(1.0)
        gradients = tuple(g * _spread(scale, g) for g in gradients)
    parts = [
        _update_one(spec, state.steps + 1, lr, *tensors)
        for tensors in zip(gradients, state.weights, state.direction, state.first, state.second, strict=True)
    ]
    weights, direction, first, second = zip(*parts, strict=True)
    return State(weights, direction, first, second, state.steps + 1)


def _update_one(
    spec: OptimizerSpec, t: int, lr: Tensor, g: Tensor, w: Tensor, d: Tensor, m: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    eta = _spread(lr, w)
    if spec.weight_decay and spec.kind == "adamw":
        w = (1.0 - eta * spec.weight_decay) * w
    elif spec.weight_decay:
        g = g + spec.weight_decay * w
    beta1, beta2 = spec.betas
    if spec.kind == "sgd":
        d = spec.momentum * d + g
        return w - eta * d, d, m, v
    v = beta2 * v + (1.0 - beta2) * g.square()
    if spec.kind == "rmsprop":
        d = spec.momentum * d + g / (_root(v) + spec.eps)
        return w - eta * d, d, m, v
    m = beta1 * m + (1.0 - beta1) * g
    scale = _root(v) / math.sqrt(1.0 - beta2**t) + spec.eps
    return w - eta / (1.0 - beta1**t) * m / scale, d, m, v


def _root(v: Tensor) -> Tensor:
    """√v, with derivative 0 instead of ∞ at 0."""
    positive = v > 0
    return torch.where(positive, torch.where(positive, v, 1.0).sqrt(), 0.0)


def _spread(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).view(-1, *[1] * (like.dim() - 1))
