"""RLScheduler on optimizers that Accelerate prepared."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils.deepspeed import DeepSpeedOptimizerWrapper
from digits import GOOD_RATE, final_loss, loader, loss_on, network
from torch import Tensor, nn

from rl_lr import Policy, RLScheduler

STEPS = 200


def compatible(what: str, verdict: str = "works") -> pytest.MarkDecorator:
    return pytest.mark.compatibility("Accelerate", what, verdict)


class Training:
    """A loop as Accelerate's users write it."""

    def __init__(self, lr: float = GOOD_RATE, ours: bool = True, accumulate: int = 1) -> None:
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), lr)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, optimizer, loader())
        self.scheduler: Any = RLScheduler(self.optimizer, STEPS) if ours else None
        if ours:
            assert self.accelerator.prepare(self.scheduler) is self.scheduler
            self.accelerator.register_for_checkpointing(self.scheduler)
        self.batches = self.forever()

    def forever(self) -> Iterator[list[Tensor]]:
        while True:
            yield from self.loader

    def run(self, batches: int) -> list[float]:
        """The rate before each batch."""
        rates = []
        for _ in range(batches):
            rates.append(self.optimizer.param_groups[0]["lr"])
            with self.accelerator.accumulate(self.model):
                loss = loss_on(self.model, next(self.batches))
                self.accelerator.backward(loss)
                self.optimizer.step()
                if self.scheduler:
                    self.scheduler.step(loss)
                self.optimizer.zero_grad()
        return rates


@compatible("an optimizer from accelerator.prepare, from a rate 100 times too low or too high")
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
    training = Training(accumulate=4)
    rates = training.run(28)  # of 29 in an epoch, at whose end Accelerate steps as well
    assert training.scheduler.controller.step == 7
    assert all(len(set(rates[index : index + 4])) == 1 for index in range(0, 28, 4))
    assert len(set(rates)) == 7


@compatible("register_for_checkpointing, save_state, load_state", "bitwise the same weights and rates")
def test_a_resumed_training_is_bitwise_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = Training()
    whole.run(58)
    whole.accelerator.save_state(str(tmp_path))
    rates = whole.run(58)
    resumed = Training()
    for _ in range(58):
        next(resumed.batches)
    resumed.accelerator.load_state(str(tmp_path))
    assert resumed.run(58) == rates
    assert len(set(rates)) > 50
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


@compatible("a gradient scaler", "works; steps that it skips do not count")
def test_steps_that_a_gradient_scaler_skips_do_not_count() -> None:
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)  # on the CPU it makes none for itself
    model = nn.Linear(64, 10)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1))
    scheduler = RLScheduler(optimizer, STEPS, Policy.keep())
    batch = next(iter(loader()))
    skipped = []
    for step in range(10):
        loss = loss_on(model, batch) * (1e38 if step in (4, 5) else 1.0)
        accelerator.backward(loss)
        optimizer.step()
        scheduler.step(loss)
        optimizer.zero_grad()
        skipped.append(optimizer.step_was_skipped)
    assert [index for index, one in enumerate(skipped) if one] == [4, 5]
    assert scheduler.controller.step == 8


def test_two_schedulers_on_one_optimizer_are_refused_also_where_one_is_wrapped() -> None:
    training = Training()
    with pytest.raises(ValueError, match="has an RLScheduler already"):
        RLScheduler(training.optimizer.optimizer, STEPS)


def test_a_detached_scheduler_leaves_the_base_rate_on_the_wrapped_optimizer() -> None:
    training = Training()
    training.run(20)
    assert not math.isclose(training.optimizer.param_groups[0]["lr"], GOOD_RATE)
    training.scheduler.detach()
    assert training.optimizer.param_groups[0]["lr"] == GOOD_RATE


@compatible("DeepSpeed", "refused: its engine makes the steps itself")
def test_an_optimizer_under_deepspeed_is_refused() -> None:
    Accelerator(cpu=True)
    wrapped = DeepSpeedOptimizerWrapper(torch.optim.SGD(network().parameters(), 0.1))
    with pytest.raises(ValueError, match="under DeepSpeed, whose engine makes the steps itself"):
        RLScheduler(wrapped, STEPS)
