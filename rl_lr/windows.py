"""What signals are made of: sums over the steps of a window, and what is kept of earlier windows."""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

PRODUCTS = ("gg", "uu", "pp", "gu", "pu", "gp")
"""Of g = g_t, p = g_{t-1} and u = u_{t-1}, the update made between them."""


@dataclass
class Window:
    """Sums over the steps of the current window."""

    loss: Tensor
    """[runs, 3] float64: number of finite losses, their sum, the sum of their squares."""
    pairs: Tensor
    """[runs] float64: consecutive steps measured."""
    products: Tensor
    """[runs, 6] float64: sums of the inner products named in PRODUCTS."""
    gradient: Tensor
    """[runs, width] float32: sum of g_t."""

    @classmethod
    def empty(cls, runs: int, width: int, device: torch.device) -> "Window":
        """A window without steps."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(runs, *shape, dtype=torch.float64, device=device)

        gradient = torch.zeros(runs, width, device=device)
        return cls(loss=zeros(3), pairs=zeros(), products=zeros(len(PRODUCTS)), gradient=gradient)

    def add_loss(self, loss: Tensor) -> None:
        """Count one step's losses, ``[runs]`` float64; non-finite ones are left out."""
        finite = loss.isfinite()
        loss = torch.where(finite, loss, 0.0)
        self.loss += torch.stack((finite, loss, loss * loss), dim=1)

    def add_pair(self, grad: Tensor, update: Tensor, grad_before: Tensor) -> None:
        """Add the products of two consecutive steps; runs with a non-finite one are left out."""
        dot, norm = torch.linalg.vecdot, torch.linalg.vector_norm
        squares = [norm(rows, dim=1).square() for rows in (grad, update, grad_before)]
        mixed = [dot(grad, update), dot(grad_before, update), dot(grad, grad_before)]
        products = torch.stack(squares + mixed, dim=1)
        valid = products.isfinite().all(dim=1)
        self.pairs += valid
        self.products += torch.where(valid[:, None], products, 0.0)
        everywhere = valid.device.type == "cpu" and bool(valid.all())  # elsewhere looking would cost a sync
        self.gradient += grad if everywhere else torch.where(valid[:, None], grad, 0.0)


@dataclass
class History:
    """What is kept of earlier windows; updated when a window is read."""

    losses: Tensor
    """[runs, 5] float64: mean loss of the last windows, newest first."""
    first_loss: Tensor
    """[runs] float64: mean loss of the first window."""
    best_loss: Tensor
    """[runs] float64: lowest mean loss of a window."""
    loss_variance: Tensor
    """[runs] float64: squared standard error of ``losses[:, 0]``."""
    log_gradient: Tensor
    """[runs, 2] float64: log |g| of the last and of the first window."""
    slow: Tensor
    """[runs, averages] float64: running averages of some signals, NaN before the first."""
    displacement: Tensor
    """[runs, width] float32: change of the weights over the last window."""

    @classmethod
    def empty(cls, runs: int, width: int, averages: int, device: torch.device) -> "History":
        """Nothing seen yet: NaN, which reads as "unknown"."""

        def blank(*shape: int) -> Tensor:
            return torch.full((runs, *shape), math.nan, dtype=torch.float64, device=device)

        displacement = torch.zeros(runs, width, device=device)
        return cls(blank(5), blank(), blank(), blank(), blank(2), blank(averages), displacement)


def snapshot(state: Window | History) -> dict[str, Tensor]:
    """A copy of every tensor, by the name of its field."""
    return {field.name: getattr(state, field.name).clone() for field in fields(state)}
