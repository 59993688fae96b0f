"""Run by test_ranks.py as a script of its own: fits on two gloo ranks, one after the other, in one pair of processes.

Lightning starts the second rank by running this script again. Each rank leaves what it ended with in
``folder/rank{0,1}.pt``.
"""

import sys
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from fits import ByHand, Module, rows, trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from rl_lr.callbacks import ConvergenceBoard, RLLearningRate
from rl_lr.scheduler import RLScheduler

warnings.filterwarnings("ignore")
torch.set_num_threads(1)


class Unused(Module):
    """Has parameters that only the first rank uses, in every other step."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Linear(8, 1)

    def loss(self, batch: list[Tensor]) -> Tensor:
        used = self.global_rank == 0 and self.trainer.global_step % 2 == 0
        y = self.network(batch[0]) + (self.extra(batch[0]) if used else 0.0)
        return nn.functional.mse_loss(y, batch[1])


class Spread(Module):
    """Has its weights spread over both ranks (FSDP 2)."""

    def __init__(self) -> None:
        super().__init__(lr=1e-4)
        self.wide = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8))

    def configure_model(self) -> None:
        mesh = cast("DeviceMesh", self.device_mesh)["data_parallel"]
        for part in (self.wide[0], self.wide[2], self.network):
            fully_shard(part, mesh=mesh)

    def loss(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.mse_loss(self.network(self.wide(batch[0])), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), self.lr)


class LocalLoss(ByHand):
    """Returns a loss on the first rank only: what is missing must not keep the other waiting."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return loss if self.global_rank == 0 or batch_idx < 3 else None


def fit(
    module: Module,
    callback: RLLearningRate,
    epochs: int = 3,
    save: Path | None = None,
    resume: Any = None,
    logs: Path | None = None,
    parts: bool = False,
) -> dict[str, Any]:
    """Train on both ranks; the weights that this one ends with, its rates, and the steps made.

    With ``parts`` each rank writes its part of the checkpoints of weights that are spread.
    """
    logger, board = TensorBoardLogger(logs) if logs else False, ConvergenceBoard()
    saving = [ModelCheckpoint(save, filename="{epoch}")] if save else []
    strategy: Any = DDPStrategy(find_unused_parameters=True, process_group_backend="gloo")
    if isinstance(module, Spread):
        strategy = ModelParallelStrategy(
            2, 1, save_distributed_checkpoint=parts, process_group_backend="gloo"
        )
    run = trainer(
        callback,
        board,
        *saving,
        max_epochs=epochs,
        strategy=strategy,
        devices=2,
        logger=logger,
        enable_checkpointing=bool(save),
    )
    run.fit(module, rows(), ckpt_path=resume)
    return {
        "weights": whole(module),
        "rates": module.rates,
        "steps": run.global_step,
        "shown": len(board.traces),
    }


def resumed(folder: Path, **settings: Any) -> dict[str, Any]:
    """The second half of a fit with weights that are spread."""
    fit(Spread(), RLLearningRate(total_steps=120, **settings), save=folder, parts=True)
    callback = RLLearningRate(total_steps=120, **settings)
    return fit(Spread(), callback, 6, resume=folder / "epoch=2.ckpt", parts=True)


def whole(network: nn.Module) -> Tensor:
    """Its weights, put together from both ranks where they are spread."""
    weights = [p.full_tensor() if isinstance(p, DTensor) else p for p in network.parameters()]
    return torch.cat([p.detach().flatten() for p in weights])


def sharded() -> dict[str, Any]:
    """By hand, with weights spread over both ranks (FSDP 2)."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    for part in (network[0], network[2], network):
        fully_shard(part, mesh=init_device_mesh("cpu", (2,)))
    optimizer = torch.optim.AdamW(network.parameters(), 3e-4)

    def mean(value: Tensor) -> Tensor:
        value = value.clone()
        torch.distributed.all_reduce(value)
        return value / 2

    scheduler, rates, losses = RLScheduler(optimizer, 400, agree=mean, average=True), [], []
    x, y = rows().dataset[:]
    mine = slice(rank := torch.distributed.get_rank(), None, 2)
    for _ in range(400):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(network(x[mine]), y[mine])
        loss.backward()
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step(loss)
        losses.append(float(loss.detach()))
    scheduler.load_state_dict(state := scheduler.state_dict())
    state["average"]["part"] = 1 - rank
    try:
        scheduler.load_state_dict(state)
    except ValueError as error:
        refusal = str(error)
    return {
        "weights": whole(network),
        "rates": rates,
        "fell to": losses[-1] / losses[0],
        "refusal": refusal,
    }


def main(folder: Path, resume: str | None) -> None:
    """Every fit, or one that goes on from a checkpoint."""
    if resume is None:
        results = {
            "plain": fit(
                Module(lr=1e-4), RLLearningRate(total_steps=120), save=folder / "saved", logs=folder / "logs"
            ),
            "each tensor": fit(Module(lr=1e-4), RLLearningRate(granularity="tensor")),
            "unused": fit(Unused(), RLLearningRate()),
            "by hand": fit(LocalLoss(), RLLearningRate()),
            "exploding": fit(Module(lr=100.0), RLLearningRate()),
            "sharded": sharded(),
            "spread": fit(Spread(), RLLearningRate(total_steps=120), save=folder / "spread"),
        }
        last = folder / "spread" / "epoch=2.ckpt"
        results["spread, resumed"] = fit(Spread(), RLLearningRate(total_steps=120), 6, resume=last)
        results["spread, resumed from parts"] = resumed(folder / "parts")
        results["spread by tensor, resumed from parts"] = resumed(folder / "tensor", granularity="tensor")
    else:
        results = {"resumed": fit(Module(lr=1e-4), RLLearningRate(total_steps=120), 5, resume=resume)}
    torch.save(results, folder / f"rank{torch.distributed.get_rank()}.pt")
    torch.distributed.barrier()  # rank 0 keeps the store that the other one still asks
    torch.distributed.destroy_process_group()  # its threads would abort an interpreter that ends


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
