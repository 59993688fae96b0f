"""Run by test_trainer_ranks.py under torchrun: trainings on two gloo ranks by Fabric, Accelerate and transformers.

Each rank sees data of its own, and leaves what it ended with in ``folder/rank{0,1}.pt``.
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from digits import GOOD_RATE, data, final_loss, loss_on, network
from hf_fits import controlled, trainer
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import vector_to_parameters
from transformers import Trainer

from rl_lr import RLScheduler

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
STEPS, LOW = 150, 0.01 * GOOD_RATE


def loop(model: nn.Module, optimizer: Any, backward: Callable[[Tensor], None], agree: Any) -> dict[str, Any]:
    """Train on the pictures of this rank alone."""
    mine = slice(torch.distributed.get_rank(), None, 2)
    pictures, labels = (one[mine] for one in data().tensors)
    scheduler, rates = RLScheduler(optimizer, STEPS, agree=agree), []
    for step in range(STEPS):
        batch = torch.arange(64 * step, 64 * (step + 1)) % len(pictures)
        loss = loss_on(model, (pictures[batch], labels[batch]))
        backward(loss)
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step(loss)
    return ended(model, rates)


def ended(model: nn.Module, rates: list[float]) -> dict[str, Any]:
    """What is compared."""
    whole = [p.full_tensor() if isinstance(p, DTensor) else p for p in model.parameters()]
    weights = torch.cat([p.detach().flatten() for p in whole])
    vector_to_parameters(weights, (put_together := network()).parameters())
    return {"weights": weights, "rates": rates, "loss": final_loss(put_together)}


def by_fabric() -> dict[str, Any]:
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    plain = network()
    model, optimizer = fabric.setup(plain, torch.optim.AdamW(plain.parameters(), LOW))
    return loop(model, optimizer, fabric.backward, fabric.all_reduce)


def by_accelerate() -> dict[str, Any]:
    accelerator = Accelerator(cpu=True)
    plain = network()
    model, optimizer = accelerator.prepare(plain, torch.optim.AdamW(plain.parameters(), LOW))
    return loop(
        model, optimizer, accelerator.backward, lambda value: accelerator.reduce(value, reduction="mean")
    )


def by_transformers(folder: Path) -> dict[str, Any]:
    run = trainer(folder, learning_rate=LOW, max_steps=STEPS, per_device_train_batch_size=64)
    _, rates = controlled(run)
    run.train()
    return ended(run.model.network, rates.rates)


class OnShards(Trainer):
    """Spreads its weights (FSDP 2), which accelerate does where there are accelerators only: it is told so."""

    def create_accelerator_and_postprocess(self) -> None:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        super().create_accelerator_and_postprocess()


def on_shards(folder: Path, resume: bool = False, **settings: Any) -> dict[str, Any]:
    """By transformers, from the beginning or from the middle of it."""
    run = trainer(
        folder,
        OnShards,
        learning_rate=LOW,
        max_steps=STEPS,
        per_device_train_batch_size=64,
        save_strategy="steps",
        save_steps=STEPS // 2,
        fsdp=True,
        fsdp_config={"version": 2, "state_dict_type": "SHARDED_STATE_DICT"},
    )
    _, rates = controlled(run, **settings)
    run.train(resume_from_checkpoint=str(folder / f"checkpoint-{STEPS // 2}") if resume else None)
    assert any(isinstance(p, DTensor) for p in run.model.parameters())
    return ended(run.model.network, rates.rates)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    results: dict[str, Any] = {
        "Fabric": by_fabric(),
        "Accelerate": by_accelerate(),
        "transformers": by_transformers(folder),
        "shards": on_shards(folder / "network"),
        "shards, resumed": on_shards(folder / "network", resume=True),
        "shards by tensor": on_shards(folder / "tensor", granularity="tensor"),
        "shards by tensor, resumed": on_shards(folder / "tensor", resume=True, granularity="tensor"),
    }
    try:
        on_shards(folder / "average", average=True)
    except ValueError as error:
        results["refusal"] = str(error)
    torch.save(results, folder / f"rank{torch.distributed.get_rank()}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
