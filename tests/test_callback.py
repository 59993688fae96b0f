"""RLLearningRate on real Trainers."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from fits import QUIET, Module, full_loss, rows, trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from rl_lr.callbacks import RLLearningRate
from rl_lr.config import ControlConfig
from rl_lr.policy import Policy, PolicyFileError
from rl_lr.schedules import base_schedule
from rl_lr.signals import NUM_SIGNALS, SIGNALS

pytestmark = [pytest.mark.filterwarnings(one) for one in QUIET]


def test_a_policy_that_keeps_follows_the_base_schedule_over_the_estimated_horizon() -> None:
    module = Module()
    trainer(RLLearningRate(Policy.keep())).fit(module, rows())
    expected = [0.01 * base_schedule(t, 80, "cosine", ControlConfig()) for t in range(80)]
    assert module.rates == expected


def test_the_shipped_policy_trains_from_a_rate_a_hundred_times_too_low() -> None:
    def final_loss(*callbacks: Any) -> float:
        module = Module(lr=1e-4)
        trainer(*callbacks, max_epochs=8).fit(module, rows())
        return full_loss(module)

    assert final_loss(RLLearningRate()) < 0.1 * final_loss()


def test_tensorboard_holds_rate_base_offset_action_and_every_signal(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer(RLLearningRate(), logger=logger, log_every_n_steps=1).fit(Module(groups=True), rows())
    events = EventAccumulator(str(tmp_path)).Reload()
    tags = set(events.Tags()["scalars"])
    expected = {f"rl_lr/signal/{name}" for name in SIGNALS} | {
        "rl_lr/lr/group0",
        "rl_lr/lr/group1",
        "rl_lr/base_lr/group0",
        "rl_lr/base_lr/group1",
        "rl_lr/offset",
        "rl_lr/action",
        "rl_lr/guard_events",
        "rl_lr/rewinds",
    }
    assert expected <= tags
    assert len(events.Scalars("rl_lr/offset")) == 56
    low, high = events.Scalars("rl_lr/lr/group0"), events.Scalars("rl_lr/lr/group1")
    for one, ten in zip(low, high, strict=True):
        assert ten.value == pytest.approx(10 * one.value, rel=1e-5)


def test_a_prefix_of_the_logger_is_kept(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="", prefix="mine")
    trainer(RLLearningRate(), logger=logger).fit(Module(), rows())
    events = EventAccumulator(str(tmp_path)).Reload()
    assert len(events.Scalars("mine-rl_lr/offset")) == 56


def test_accumulated_batches_count_as_one_step_and_the_loss_is_undivided() -> None:
    callback = RLLearningRate(Policy.keep(), total_steps=5000)
    seen: list[tuple[int, list[float]]] = []

    class Spy(pl.Callback):
        def on_train_batch_end(self, *_: object) -> None:
            assert callback.scheduler is not None
            state = callback.scheduler.state_dict()["controller"]
            losses = state["signals"]["window"]["pending"]
            seen.append((state["step"], [float(loss) for loss in losses]))

    module = Module(lr=1e-6)
    trainer(callback, Spy(), max_epochs=1, accumulate_grad_batches=4).fit(module, rows())
    assert [step for step, _ in seen[:9]] == [0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert seen[3][1] == [pytest.approx(full_loss(Module(), 64), rel=1e-4)]  # the mean of four


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint need to be provided")
def test_a_fit_resumed_at_an_epoch_end_is_bitwise_the_uninterrupted_one(tmp_path: Path) -> None:
    def fit(epochs: int, *callbacks: pl.Callback, resume: Path | None = None) -> Module:
        module = Module()
        callbacks = (RLLearningRate(total_steps=160), *callbacks)
        run = trainer(*callbacks, max_epochs=epochs, enable_checkpointing=len(callbacks) > 1)
        run.fit(module, rows(), ckpt_path=resume)
        return module

    whole = fit(4)
    fit(2, pl.callbacks.ModelCheckpoint(tmp_path, filename="{epoch}"))
    resumed = fit(4, resume=tmp_path / "epoch=1.ckpt")
    assert torch.equal(whole.network.weight, resumed.network.weight)
    assert whole.rates[80:] == resumed.rates


def test_a_fit_that_starts_at_a_thousand_times_a_good_rate_ends_healthy(tmp_path: Path) -> None:
    class Wild(Module):
        def __init__(self) -> None:
            super().__init__(lr=1000.0)
            self.network = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 1))  # type: ignore[assignment]

    module, logger = Wild(), TensorBoardLogger(tmp_path)
    before = full_loss(module)
    keep = Policy.keep(ControlConfig())  # no policy helps, only the guard
    trainer(RLLearningRate(keep), max_epochs=6, logger=logger).fit(module, rows())
    module.eval()
    assert full_loss(module) < before
    events = EventAccumulator(logger.log_dir).Reload()
    assert max(event.value for event in events.Scalars("rl_lr/rewinds")) > 0


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_with_a_rate_for_each_tensor_a_fit_resumes_and_its_checkpoint_loads_without_us(
    tmp_path: Path,
) -> None:
    middle = tmp_path / "half" / "epoch=1.ckpt"

    def fit(name: str, epochs: int, *callbacks: pl.Callback, resume: Path | None = None) -> Module:
        module = Module()
        saving = pl.callbacks.ModelCheckpoint(tmp_path / name, filename="{epoch}")
        run = trainer(*callbacks, saving, max_epochs=epochs, enable_checkpointing=True)
        run.fit(module, rows(), ckpt_path=resume)
        assert [len(group["params"]) for group in run.optimizers[0].param_groups] == [2]
        return module

    def ours() -> RLLearningRate:
        return RLLearningRate(total_steps=160, granularity="tensor")

    whole = fit("whole", 4, ours())
    fit("half", 2, ours())
    resumed = fit("resumed", 4, ours(), resume=middle)
    assert torch.equal(whole.network.weight, resumed.network.weight)
    assert whole.rates[80:] == resumed.rates
    with pytest.warns(UserWarning, match="RLLearningRate"):  # Lightning's own: a callback is missing
        fit("without", 3, resume=middle)


def test_a_checkpoint_saved_after_the_fit_holds_its_end(tmp_path: Path) -> None:
    path = tmp_path / "end.ckpt"
    run = trainer(RLLearningRate(), max_epochs=1)
    run.fit(Module(), rows())
    run.save_checkpoint(path)
    (state,) = torch.load(path, weights_only=True)["callbacks"].values()
    assert state["optimizers"][0]["controller"]["step"] == 40


def test_resuming_a_checkpoint_made_without_the_callback_warns_once(tmp_path: Path) -> None:
    path = tmp_path / "plain.ckpt"
    plain = trainer(max_epochs=1)
    plain.fit(Module(), rows())
    plain.save_checkpoint(path)
    with pytest.warns(UserWarning, match="made without RLLearningRate"):
        trainer(RLLearningRate(), max_epochs=2).fit(Module(), rows(), ckpt_path=path)


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
def test_a_state_that_a_failed_fit_did_not_take_up_is_not_that_of_the_next(tmp_path: Path) -> None:
    class Fails(pl.Callback):
        def on_sanity_check_start(self, run: Any, module: Any) -> None:
            raise OSError("no data")

    first = trainer(RLLearningRate(), max_epochs=1)
    first.fit(Module(lr=0.3), rows())
    first.save_checkpoint(tmp_path / "end.ckpt")
    callback, module = RLLearningRate(Policy.keep()), Module()
    module.validation_step = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no data"):
        trainer(callback, Fails(), max_epochs=2).fit(module, rows(), rows(), ckpt_path=tmp_path / "end.ckpt")
    module = Module()
    trainer(callback, max_epochs=1).fit(module, rows())
    assert module.rates == [0.01 * base_schedule(step, 40, "cosine", ControlConfig()) for step in range(40)]


def test_a_trainer_that_never_logs_is_told_of_decisions_alone(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer(RLLearningRate(), logger=logger, log_every_n_steps=0, max_epochs=5).fit(Module(), rows())
    events = EventAccumulator(str(tmp_path)).Reload()
    assert len(events.Scalars("rl_lr/lr/group0")) == 56


def test_after_the_fit_the_optimizer_has_its_base_rate_back() -> None:
    callback = RLLearningRate()
    run = trainer(callback)
    run.fit(Module(lr=0.02), rows())
    assert callback.scheduler is None
    assert run.optimizers[0].param_groups[0]["lr"] == 0.02


def test_a_scheduler_of_the_module_is_refused_by_name_unless_overridden() -> None:
    with pytest.raises(MisconfigurationException, match="StepLR"):
        trainer(RLLearningRate()).fit(Module(scheduler=True), rows())
    module = Module(scheduler=True)
    trainer(RLLearningRate(Policy.keep(), on_conflict="override")).fit(module, rows())
    assert module.rates[-1] == 0.01 * base_schedule(79, 80, "cosine", ControlConfig())


def test_a_horizon_of_its_own_is_followed_and_cut_short() -> None:
    module = Module()
    limited = trainer(RLLearningRate(Policy.keep(), total_steps=500), max_epochs=1)
    limited.fit(module, rows())
    assert module.rates[0] == pytest.approx(1e-5)
    assert module.rates[-1] == 0.01 * base_schedule(39, 500, "cosine", ControlConfig())


@pytest.mark.parametrize("on_error", ["fallback", "raise"])
def test_a_failing_policy_hands_over_with_one_warning_or_raises(on_error: Any) -> None:
    layers = ((torch.zeros(4, NUM_SIGNALS), torch.zeros(4)), (torch.zeros(1, 3), torch.zeros(1)))
    wrong = Policy(layers, name="of shapes that do not fit")
    works_once = RLLearningRate(Policy.keep(), on_error=on_error)
    module = Module()

    class Break(pl.Callback):
        def on_train_batch_end(self, run: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 20 and works_once.scheduler is not None:
                works_once.scheduler.policy = wrong

    run = trainer(works_once, Break(), max_epochs=1)
    if on_error == "raise":
        with pytest.raises(RuntimeError, match="shapes"):
            run.fit(module, rows())
        return
    with pytest.warns(UserWarning, match="hands over to the base schedule") as caught:
        run.fit(module, rows())
    assert sum("hands over" in str(one.message) for one in caught) == 1
    assert module.rates[-1] == 0.01 * base_schedule(39, 40, "cosine", ControlConfig())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"policy": "no such"}, "no policy 'no such'"),
        ({"total_steps": 0}, "total_steps is 0"),
        ({"total_steps": -5}, "total_steps is -5"),
        ({"base_schedule": "sawtooth"}, "Unknown base schedule 'sawtooth'"),
        ({"on_conflict": "maybe"}, "on_conflict is 'maybe'"),
        ({"on_error": "maybe"}, "on_error is 'maybe'"),
        ({"granularity": "layer"}, "granularity is 'layer'"),
        ({"on_divergence": "cry"}, "on_divergence is 'cry'"),
    ],
)
def test_bad_arguments_are_refused_at_construction(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises((ValueError, PolicyFileError), match=reason):
        RLLearningRate(**settings)
