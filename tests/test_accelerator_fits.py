"""Fits on an accelerator keep what they promise on the CPU, and the callback waits for it at decisions alone."""

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from fits import QUIET, Module, Overflowing, full_loss, rows, trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import nn

from rl_lr.callbacks import RLLearningRate
from rl_lr.config import ControlConfig
from rl_lr.policy import Policy

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    *(pytest.mark.filterwarnings(one) for one in QUIET),
]


def on_device(*callbacks: pl.Callback, **settings: Any) -> Any:
    """A Trainer of two epochs there."""
    return trainer(*callbacks, **({"accelerator": "gpu", "devices": 1} | settings))


@contextmanager
def waits() -> Iterator[list[list[str]]]:
    """Gathers the functions of ours, outermost first, in which the host waits for the device."""
    seen: list[list[str]] = []

    def told(*_: Any, **__: Any) -> None:
        frames = traceback.extract_stack()
        ours = [one.name for one in frames if "rl_lr" in one.filename]
        if ours:
            seen.append(ours)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = told
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield seen
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_in_a_trainer_the_callback_waits_for_the_device_at_decisions_alone(tmp_path: Path) -> None:
    class Watched(pl.Callback):
        """Counts where we waited in each batch, and whether a decision fell into it."""

        def __init__(self) -> None:
            self.by_batch: list[tuple[list[list[str]], bool]] = []

        def on_train_batch_end(self, run: Any, module: Any, *_: Any) -> None:
            self.by_batch.append((seen.copy(), callback.scheduler.controller.just_decided))  # type: ignore[union-attr]
            seen.clear()

    callback, watched = RLLearningRate(average=True), Watched()
    run = on_device(callback, watched, max_epochs=20, logger=TensorBoardLogger(tmp_path), log_every_n_steps=5)
    with waits() as seen:
        run.fit(Module(), rows())
    within = watched.by_batch[1:-1]  # the last one is judged, too
    between = [waited for waited, decided in within if not decided]
    assert len(between) > 700
    assert [waited for waited in between if waited] == []
    assert any(waited for waited, decided in watched.by_batch if decided)  # or it would notice nothing


def test_a_fit_that_starts_at_a_thousand_times_a_good_rate_ends_healthy() -> None:
    class Wild(Module):
        def __init__(self) -> None:
            super().__init__(lr=1000.0)
            self.network = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 1))  # type: ignore[assignment]

    module = Wild()
    before = full_loss(module)
    callback = RLLearningRate(Policy.keep(ControlConfig()))  # no policy helps, only the guard
    on_device(callback, max_epochs=6).fit(module, rows())
    assert callback._final[0]["controller"]["rewinds"][0] > 0
    assert full_loss(module.cpu().eval()) < before


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint need to be provided")
@pytest.mark.parametrize("average", [False, True])
def test_a_fit_resumes_there_with_the_same_bits_and_elsewhere_with_the_same_rate(
    tmp_path: Path, average: bool
) -> None:
    def fit(epochs: int, *callbacks: pl.Callback, resume: Path | None = None, **settings: Any) -> Module:
        module = Module()
        callbacks = (RLLearningRate(total_steps=160, average=average), *callbacks)
        run = on_device(*callbacks, max_epochs=epochs, enable_checkpointing=len(callbacks) > 1, **settings)
        run.fit(module, rows(), ckpt_path=resume)
        return module.cpu()

    half = tmp_path / "epoch=1.ckpt"
    whole = fit(4)
    fit(2, pl.callbacks.ModelCheckpoint(tmp_path, filename="{epoch}"))
    resumed = fit(4, resume=half)
    assert torch.equal(whole.network.weight, resumed.network.weight)
    assert whole.rates[80:] == resumed.rates
    elsewhere = fit(4, resume=half, accelerator="cpu", devices=1)
    assert elsewhere.rates[0] == whole.rates[80]
    assert full_loss(elsewhere) == pytest.approx(full_loss(whole), rel=0.2, abs=1e-3)


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_overflow_under_a_gradient_scaler_do_no_harm(fused: bool) -> None:
    """Fused ones are called and make no step: they count, as looking would cost a synchronisation."""

    module, callback = Overflowing(fused), RLLearningRate(Policy.keep())
    run = on_device(callback, precision="16-mixed", max_epochs=4)
    run.fit(module, rows())
    scaled_down = 160 - callback._final[0]["controller"]["step"]
    assert scaled_down == 0 if fused else scaled_down >= 2
    assert full_loss(module.cpu().float()) < full_loss(Module())
