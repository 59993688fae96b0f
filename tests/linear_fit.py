"""A linear problem by hand, for the tests of what controls an optimizer."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rl_lr.policy import Policy
from rl_lr.scheduler import RLScheduler

STEPS, RATE = 400, 0.01


class Fit:
    """A linear problem, by hand: its weights, and the loss after training."""

    def __init__(
        self,
        build: Callable[[list[Tensor]], torch.optim.Optimizer],
        sparse: bool = False,
        device: str = "cpu",
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(256, 8, generator=generator)
        self.x, self.y = x.to(device), (x @ torch.randn(8, 4, generator=generator)).to(device)
        self.weight = nn.Parameter(torch.randn(8, 4, generator=generator).to(device))
        self.sparse = sparse
        self.optimizer = build([self.weight])

    def loss(self) -> Tensor:
        return (self.x @ self.weight - self.y).square().mean()

    @torch.no_grad()
    def share(self) -> float:
        return float(self.loss())

    def differentiate(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        if self.sparse:
            assert self.weight.grad is not None
            self.weight.grad = self.weight.grad.to_sparse()
        return loss.detach()

    def step(self) -> Tensor:
        loss = self.differentiate()
        self.optimizer.step()
        return loss

    def train(self, policy: Policy | str) -> tuple[list[float], float]:
        """Rates of all steps and the final loss as a share of the first."""
        scheduler = RLScheduler(self.optimizer, STEPS, policy)
        first, rates = self.share(), []
        for _ in range(STEPS):
            rates.append(float(self.optimizer.param_groups[0]["lr"]))
            scheduler.step(self.step())
        return rates, self.share() / first
