"""Small fits on real Trainers, for the tests of the callback."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

QUIET = [
    "ignore:.*does not have many workers",
    "ignore:.*`isinstance.treespec, LeafSpec.` is deprecated",
    "ignore:.*is smaller than the logging interval",
]
"""Warnings of Lightning that have nothing to do with us."""


def rows(count: int = 640) -> DataLoader[Any]:
    """Batches of 16 of a linear problem."""
    x = torch.randn(count, 8, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x.sum(dim=1, keepdim=True)), batch_size=16)


def stream() -> DataLoader[Any]:
    """The same rows, and nobody knows how many."""

    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            data: Any = rows().dataset
            return iter([data[index] for index in range(len(data))])

    return DataLoader(Stream(), batch_size=16)


class Module(pl.LightningModule):
    """Linear regression; ``scheduler`` adds a learning-rate scheduler of the module's own."""

    def __init__(self, lr: float = 0.01, scheduler: bool = False, groups: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Linear(8, 1)
        self.lr, self.scheduler, self.groups = lr, scheduler, groups
        self.rates: list[float] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        self.rates.append(float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        return self.loss(batch)

    def loss(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.mse_loss(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        parameters: Any = self.parameters()
        if self.groups:
            parameters = [
                {"params": [self.network.weight]},
                {"params": [self.network.bias], "lr": 10 * self.lr},
            ]
        optimizer = torch.optim.SGD(parameters, self.lr)
        if self.scheduler:
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]
        return optimizer


class Under(Module):
    """The same under another optimizer."""

    def __init__(self, build: Callable[[list[Tensor]], torch.optim.Optimizer]) -> None:
        super().__init__()
        self.build = build

    def configure_optimizers(self) -> Any:
        return self.build(list(self.parameters()))


class Overflowing(Module):
    """Two steps of it have gradients that half precision cannot hold."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused

    def loss(self, batch: list[Tensor]) -> Tensor:
        factor = 1e38 if self.trainer.global_step in (20, 21) else 1.0
        return super().loss(batch).float() * factor

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), self.lr, fused=self.fused)


class ByHand(Module):
    """Manual optimization with an optimizer for the weight and one for the bias."""

    def __init__(self, lr: float = 0.01, returns: bool = True, second_every: int = 1) -> None:
        super().__init__(lr)
        self.automatic_optimization = False
        self.returns, self.second_every = returns, second_every

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        loss = self.loss(batch)
        first, second = cast("list[Any]", self.optimizers())
        self.rates.append(first.param_groups[0]["lr"])
        first.zero_grad()
        second.zero_grad()
        self.manual_backward(loss)
        first.step()
        if batch_idx % self.second_every == 0:
            second.step()
        self.log("my_loss", loss)
        return loss if self.returns else None

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.SGD([self.network.weight], self.lr),
            torch.optim.Adam([self.network.bias], self.lr),
        ]


def full_loss(module: Module, count: int = 640) -> float:
    """Loss over the first ``count`` rows."""
    x, y = rows().dataset[:count]
    return float(nn.functional.mse_loss(module.network(x), y).detach())


def trainer(*callbacks: Any, namespace: Any = pl, **settings: Any) -> Any:
    """A Trainer of two epochs that leaves nothing behind."""
    defaults: dict[str, Any] = {
        "max_epochs": 2,
        "logger": False,
        "enable_checkpointing": False,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return namespace.Trainer(callbacks=list(callbacks), **(defaults | settings))
