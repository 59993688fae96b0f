"""How long a fit is, where it is resumed or makes fewer steps than its batches tell."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import pytorch_lightning as pl
import torch
from fits import QUIET, Module, Overflowing, rows, trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from rl_lr.callbacks import RLLearningRate
from rl_lr.policy import Policy

RESUMED = [
    "ignore:You're resuming from a checkpoint that ended before",
    "ignore:.*callbacks used to create the checkpoint need to be",
    "ignore:The dirpath has changed",
]
pytestmark = [pytest.mark.filterwarnings(one) for one in (*QUIET, *RESUMED)]


class Skipping(Module):
    """Every third batch has no loss, and its step does not count."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx % 3 == 2 else loss


class Often(Module):
    """Manual optimization, several steps in every batch."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.automatic_optimization, self.steps = False, steps

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        optimizer = cast("Any", self.optimizers())
        for _ in range(self.steps):
            loss = self.loss(batch)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss


def test_a_fit_resumed_in_mid_epoch_keeps_its_horizon_and_its_bits(tmp_path: Path) -> None:
    saved = ModelCheckpoint(tmp_path, every_n_train_steps=7, save_top_k=-1)
    once = TensorDataset(*(column.repeat(40, 1) for column in next(iter(rows()))))
    alike = DataLoader(once, batch_size=16)  # Lightning does not know which batches of an epoch were drawn
    whole = Module()
    trainer(RLLearningRate(), saved, enable_checkpointing=True).fit(whole, alike)
    for step in (21, 42, 77):
        module = Module()
        path = next(tmp_path.glob(f"*step={step}.ckpt"))
        trainer(RLLearningRate()).fit(module, alike, ckpt_path=path)
        assert module.rates == whole.rates[step:]
        assert torch.equal(module.network.weight, whole.network.weight)


def scaling() -> list[Any]:
    """Half precision on the CPU, whose scaler leaves out steps that overflow."""
    return [pl.plugins.MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=256.0))]


@pytest.mark.filterwarnings("ignore:SGD made a step in", "ignore:.*training_step. returned .None.")
@pytest.mark.parametrize(("build", "plugins"), [(Skipping, list), (partial(Overflowing, False), scaling)])
def test_a_fit_resumed_after_steps_that_did_not_count_keeps_its_horizon(
    tmp_path: Path, build: Callable[[], Module], plugins: Callable[[], list[Any]]
) -> None:
    whole = build()
    saved = ModelCheckpoint(tmp_path, every_n_epochs=1, save_top_k=-1)
    settings = {"max_epochs": 3, "enable_checkpointing": True}
    trainer(RLLearningRate(), saved, plugins=plugins(), **settings).fit(whole, rows())
    module = build()
    path = next(tmp_path.glob("epoch=0-*.ckpt"))
    trainer(RLLearningRate(), plugins=plugins(), max_epochs=3).fit(module, rows(), ckpt_path=path)
    assert module.rates == whole.rates[40:]
    assert torch.equal(module.network.weight, whole.network.weight)


def test_a_fit_resumed_for_longer_has_a_longer_horizon(tmp_path: Path) -> None:
    first = trainer(RLLearningRate(Policy.keep()), max_epochs=2)
    first.fit(Module(), rows())
    first.save_checkpoint(tmp_path / "end.ckpt")
    module = Module()
    with pytest.warns(UserWarning, match="planned for 80 steps and has made 80; it goes on towards 160"):
        trainer(RLLearningRate(Policy.keep()), max_epochs=4).fit(
            module, rows(), ckpt_path=tmp_path / "end.ckpt"
        )
    assert len(module.rates) == 80


@pytest.mark.filterwarnings("ignore:.*training_step. returned .None.")
def test_steps_without_a_loss_that_are_missing_in_the_end_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="SGD made a step in 54 of 80 steps of the Trainer"):
        trainer(RLLearningRate(Policy.keep())).fit(Skipping(), rows())


def test_several_steps_in_a_batch_are_warned_of_where_max_steps_counts_them() -> None:
    with pytest.warns(UserWarning, match="SGD made a step in 40 of 160 steps that max_steps counts"):
        trainer(RLLearningRate(Policy.keep()), max_epochs=-1, max_steps=320).fit(Often(4), rows())


@pytest.mark.filterwarnings("error:.*made a step in")
@pytest.mark.parametrize("settings", [{}, {"max_steps": 1000}, {"max_epochs": -1, "max_steps": 80}])
def test_no_warning_comes_where_the_rate_is_annealed_in_time(settings: dict[str, Any]) -> None:
    steps = 1 if "max_epochs" in settings else 4
    module = Often(steps)
    callback = RLLearningRate(Policy.keep())
    trainer(callback, **settings).fit(module, rows())
    assert callback.state_dict()["optimizers"][0]["controller"]["total_steps"] == 80
