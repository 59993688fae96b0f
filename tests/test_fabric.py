"""RLScheduler on optimizers that Lightning Fabric set up."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from digits import GOOD_RATE, final_loss, loader, loss_on, network
from lightning.fabric import Fabric

from rl_lr import RLScheduler

STEPS = 200


def compatible(what: str, verdict: str = "works") -> pytest.MarkDecorator:
    return pytest.mark.compatibility("Lightning Fabric", what, verdict)


class Training:
    """A loop as Fabric's users write it."""

    def __init__(self, lr: float = GOOD_RATE, ours: bool = True) -> None:
        self.fabric = Fabric(accelerator="cpu", devices=1)
        model = network()
        self.model, self.optimizer = self.fabric.setup(model, torch.optim.AdamW(model.parameters(), lr))
        self.loader = self.fabric.setup_dataloaders(loader())
        self.scheduler: Any = RLScheduler(self.optimizer, STEPS) if ours else None
        self.batches = self.forever()

    @property
    def state(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}

    def forever(self) -> Iterator[Any]:
        while True:
            yield from self.loader

    def run(self, batches: int, accumulate: int = 1) -> list[float]:
        """The rate before each batch."""
        rates = []
        for index in range(batches):
            rates.append(self.optimizer.param_groups[0]["lr"])
            loss = loss_on(self.model, next(self.batches))
            self.fabric.backward(loss / accumulate)
            if (index + 1) % accumulate == 0:
                self.optimizer.step()
                self.optimizer.zero_grad()
            if self.scheduler:
                self.scheduler.step(loss)
        return rates


@compatible("an optimizer from fabric.setup, from a rate 100 times too low or too high")
@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_a_network_trains_from_a_rate_a_hundred_times_off(factor: float) -> None:
    def trained(ours: bool) -> float:
        training = Training(factor * GOOD_RATE, ours)
        training.run(STEPS)
        return final_loss(training.model)

    assert trained(ours=True) < 0.1
    assert trained(ours=False) > 0.5


@compatible("gradient accumulation", "works; time is counted in steps of the optimizer")
def test_batches_that_are_accumulated_are_no_steps() -> None:
    training = Training()
    rates = training.run(41, accumulate=4)
    assert training.scheduler.controller.step == 10
    assert all(len(set(rates[index : index + 4])) == 1 for index in range(0, 40, 4))
    assert len(set(rates)) == 11


@compatible("fabric.save, fabric.load", "bitwise the same weights and rates")
def test_a_resumed_training_is_bitwise_the_uninterrupted_one(tmp_path: Path) -> None:
    path = tmp_path / "state.ckpt"
    whole = Training()
    whole.run(58)
    whole.fabric.save(path, whole.state)
    rates = whole.run(58)
    resumed = Training()
    for _ in range(58):
        next(resumed.batches)
    resumed.fabric.load(path, resumed.state, weights_only=True)
    assert resumed.run(58) == rates
    assert len(set(rates)) > 50
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_two_schedulers_on_one_optimizer_are_refused_also_where_one_is_wrapped() -> None:
    training = Training()
    with pytest.raises(ValueError, match="has an RLScheduler already"):
        RLScheduler(training.optimizer.optimizer, STEPS)
