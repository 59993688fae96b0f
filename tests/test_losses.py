"""The loss that belongs to a step, in fits that log and step in turns of their own."""

from pathlib import Path
from typing import Any, cast

import pytest
import pytorch_lightning as pl
import torch
from fits import QUIET, ByHand, Module, rows, trainer
from torch import Tensor

from rl_lr.callbacks import RLLearningRate
from rl_lr.policy import Policy
from rl_lr.scheduler import RLScheduler

pytestmark = [pytest.mark.filterwarnings(one) for one in (*QUIET, "ignore:The dirpath has changed")]


class Turns(Module):
    """Two optimizers, the second of which steps in some batches only; its metric is logged only there."""

    def __init__(self, every: int = 1, logs: bool = False) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.every, self.logs, self.turns = every, logs, 0

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        first, second = cast("list[Any]", self.optimizers())
        loss = self.loss(batch)
        for optimizer in (first, second):
            optimizer.zero_grad()
        self.manual_backward(loss)
        first.step()
        if batch_idx % self.every == self.every - 1:
            second.step()
            self.turns += 1
            self.log("turn", float(self.turns))
        return loss.detach()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD([parameter], self.lr) for parameter in self.network.parameters()]


def test_a_metric_that_is_logged_only_where_its_optimizer_steps_is_felt_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    felt: list[float] = []
    original = RLScheduler.step

    def step(scheduler: RLScheduler, loss: Any) -> None:
        if scheduler.optimizer.param_groups[0]["params"][0].dim() == 1:  # the second one's, a bias
            felt.append(float(loss))
        original(scheduler, loss)

    monkeypatch.setattr(RLScheduler, "step", step)
    callback = RLLearningRate(Policy.keep(), monitor={1: "turn"}, total_steps=8)
    trainer(callback, max_epochs=1).fit(Turns(every=5), rows())
    assert felt[:4] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
@pytest.mark.parametrize("every", [1, 3])
def test_losses_that_wait_for_a_step_at_the_end_of_an_epoch_are_not_lost_in_resuming(
    every: int, tmp_path: Path
) -> None:
    saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    whole, resumed = Turns(every), Turns(every)
    settings = {"max_epochs": 4, "enable_checkpointing": True}
    trainer(RLLearningRate(total_steps=160), saving, **settings).fit(whole, rows())
    saving = pl.callbacks.ModelCheckpoint(tmp_path / "again", filename="{epoch}")
    run = trainer(RLLearningRate(total_steps=160), saving, **settings)
    run.fit(resumed, rows(), ckpt_path=tmp_path / "epoch=1.ckpt")
    for ours, theirs in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_losses_of_every_sample_are_felt_by_their_mean() -> None:
    class Samples(ByHand):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
            losses = (self.network(batch[0]) - batch[1]).square().flatten()
            optimizers = cast("list[Any]", self.optimizers())
            for optimizer in optimizers:
                optimizer.zero_grad()
            self.manual_backward(losses.mean())
            for optimizer in optimizers:
                optimizer.step()
            return losses.detach()

    seen: list[int] = []

    class Look(pl.Callback):
        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            seen.extend(one.controller.step for one in callback.schedulers.values())

    callback = RLLearningRate(on_error="raise")
    trainer(callback, Look(), max_epochs=1).fit(Samples(), rows())
    assert seen == [40, 40]
