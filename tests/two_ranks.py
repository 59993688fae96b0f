"""Run by test_ranks.py as a script of its own: fits on two gloo ranks, one after the other, in one pair of processes.

Lightning starts the second rank by running this script again. Each rank leaves what it ended with in
``folder/rank{0,1}.pt``.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from fits import ByHand, Module, rows, trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from rl_lr.callbacks import RLLearningRate

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


class LocalLoss(ByHand):
    """Returns a loss on the first rank only: what is missing must not keep the other waiting."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return loss if self.global_rank == 0 or batch_idx < 3 else None


def fit(
    module: Module, callback: RLLearningRate, epochs: int = 3, save: Path | None = None, resume: Any = None
) -> dict[str, Any]:
    """Train on both ranks; the weights that this one ends with, its rates, and the steps made."""
    saving = [ModelCheckpoint(save, filename="{epoch}")] if save else []
    strategy = DDPStrategy(find_unused_parameters=True, process_group_backend="gloo")
    run = trainer(
        callback, *saving, max_epochs=epochs, strategy=strategy, devices=2, enable_checkpointing=bool(save)
    )
    run.fit(module, rows(), ckpt_path=resume)
    weights = torch.cat([p.detach().flatten() for p in module.parameters()])
    return {"weights": weights, "rates": module.rates, "steps": run.global_step}


def main(folder: Path, resume: str | None) -> None:
    """Every fit, or one that goes on from a checkpoint."""
    if resume is None:
        results = {
            "plain": fit(Module(lr=1e-4), RLLearningRate(total_steps=120), save=folder / "saved"),
            "each tensor": fit(Module(lr=1e-4), RLLearningRate(granularity="tensor")),
            "unused": fit(Unused(), RLLearningRate()),
            "by hand": fit(LocalLoss(), RLLearningRate()),
            "exploding": fit(Module(lr=100.0), RLLearningRate()),
        }
    else:
        results = {"resumed": fit(Module(lr=1e-4), RLLearningRate(total_steps=120), 5, resume=resume)}
    torch.save(results, folder / f"rank{torch.distributed.get_rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
