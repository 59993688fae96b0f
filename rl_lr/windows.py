"""What signals are made of: sums over the steps of a window, and what is kept of earlier windows."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_FOLD = 64  # losses summed up at once: one by one they would cost more than the sums are worth


@dataclass
class Window:
    """Sums over the steps of the current window."""

    loss: Tensor
    """[runs, 3] float64: number of finite losses, their sum, the sum of their squares."""
    pairs: Tensor
    """[runs] float64: consecutive steps measured."""
    products: Tensor
    """[runs, 3, 3] float64: sums of the inner products of g = g_t, u = u_{t-1}, the update that led
    to it, and p = g_{t-1}, in this order."""
    gradient: Tensor
    """[runs, width] float32: sum of g_t."""
    pending: list[Tensor | float]
    """Losses not yet in ``loss``, [runs] float64 each, or a number that all runs share."""

    @classmethod
    def empty(cls, runs: int, width: int, device: torch.device) -> "Window":
        """A window without steps."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(runs, *shape, dtype=torch.float64, device=device)

        gradient = torch.zeros(runs, width, dtype=torch.float32, device=device)
        return cls(loss=zeros(3), pairs=zeros(), products=zeros(3, 3), gradient=gradient, pending=[])

    def add_loss(self, loss: Tensor | float) -> None:
        """Count one step's losses, ``[runs]`` float64, or one for all; non-finite ones are left out."""
        self.pending.append(loss)
        if len(self.pending) == _FOLD:
            self.fold()

    def fold(self) -> None:
        """Bring ``loss`` up to date."""
        if not self.pending:
            return
        losses = self._pending_losses()
        finite = losses.isfinite()
        losses = torch.where(finite, losses, 0.0)
        self.loss += torch.stack((finite, losses, losses * losses), dim=1).sum(dim=2)
        self.pending = []

    def _pending_losses(self) -> Tensor:
        """``[runs, steps]`` float64."""
        numbers = [one for one in self.pending if not isinstance(one, Tensor)]
        shared = torch.tensor(numbers, dtype=torch.float64, device=self.loss.device)
        own = [one[:, None] for one in self.pending if isinstance(one, Tensor)]
        return torch.cat((shared.expand(len(self.loss), -1), *own), dim=1)

    def forget(self, rows: Tensor) -> None:
        """Empty the sums of some runs, ``[runs]`` bool."""
        self.fold()
        for name in ("loss", "pairs", "products", "gradient"):
            sums = getattr(self, name)
            setattr(self, name, torch.where(rows.view(-1, *[1] * (sums.dim() - 1)), 0.0, sums))

    def add_pair(self, grad: Tensor, update: Tensor, grad_before: Tensor) -> None:
        """Add the products of two consecutive steps; runs with a non-finite one are left out."""
        rows = torch.stack((grad, update, grad_before), dim=1)
        products = torch.bmm(rows, rows.mT)
        sums = products.sum(dim=(1, 2))
        # Elsewhere than on the CPU looking would cost a synchronisation.
        if sums.device.type == "cpu" and math.isfinite(sums.sum()):
            self.pairs += 1
        else:
            valid = sums.isfinite()
            self.pairs += valid
            products = torch.where(valid[:, None, None], products, 0.0)
            grad = torch.where(valid[:, None], grad, 0.0)
        self.products += products
        self.gradient += grad


@dataclass
class History:
    """What is kept of earlier windows; updated when a window is read."""

    losses: Tensor
    """[runs, 5] float64: mean loss of the last windows, newest first."""
    first_loss: Tensor
    """[runs] float64: mean loss of the first window."""
    first_spread: Tensor
    """[runs] float64: standard deviation of the losses of the first window."""
    first_length: Tensor
    """[runs] float64: losses in the first window."""
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

        displacement = torch.zeros(runs, width, dtype=torch.float32, device=device)
        return cls(
            losses=blank(5),
            first_loss=blank(),
            first_spread=blank(),
            first_length=blank(),
            best_loss=blank(),
            loss_variance=blank(),
            log_gradient=blank(2),
            slow=blank(averages),
            displacement=displacement,
        )


def copied(state: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Fields of a window or history, tensors and lists of tensors or numbers, copied to the device."""

    def here(value: Tensor | float) -> Tensor | float:
        return value.to(device, copy=True) if isinstance(value, Tensor) else value

    return {k: here(v) if isinstance(v, Tensor) else [here(one) for one in v] for k, v in state.items()}
