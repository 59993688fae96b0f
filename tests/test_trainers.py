"""RLLearningRate wherever a Trainer runs: every way to make steps, and every way for a fit to end."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from fits import QUIET, ByHand, Module, Overflowing, full_loss, rows, stream, trainer
from pytorch_lightning.callbacks import (
    EarlyStopping,
    GradientAccumulationScheduler,
)
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from rl_lr.callbacks import RLLearningRate
from rl_lr.config import ControlConfig
from rl_lr.policy import Policy
from rl_lr.schedules import base_schedule
from rl_lr.sketches import Granularity

pytestmark = [pytest.mark.filterwarnings(one) for one in QUIET]


def cosine(step: int, horizon: int, base: float = 0.01) -> float:
    return base * base_schedule(step, horizon, "cosine", ControlConfig())


class Count(pl.Callback):
    """Steps that each controlled optimizer was seen to make, batch by batch."""

    def __init__(self, callback: RLLearningRate) -> None:
        self.callback, self.steps = callback, []  # type: ignore[var-annotated]

    def on_train_batch_end(self, *_: object) -> None:
        self.steps.append([one.controller.step for one in self.callback.schedulers.values()])


def compatible(what: str, verdict: str = "works") -> pytest.MarkDecorator:
    return pytest.mark.compatibility("Trainer", what, verdict)


@compatible("manual optimization, several optimizers", "each has a controller of its own")
@pytest.mark.parametrize("returns", [True, False])
def test_in_manual_optimization_every_optimizer_is_controlled(returns: bool) -> None:
    module = ByHand(returns=returns)
    callback = RLLearningRate(Policy.keep(), monitor=None if returns else "my_loss")
    counted = Count(callback)
    trainer(callback, counted).fit(module, rows())
    assert counted.steps[-1] == [80, 80]
    assert module.rates == [cosine(t, 80) for t in range(80)]


@compatible("manual optimization, several optimizers", "each has a controller of its own")
def test_the_shipped_policy_trains_by_hand_from_a_rate_a_hundred_times_too_low() -> None:
    def final_loss(*callbacks: Any) -> float:
        module = ByHand(lr=1e-4)
        trainer(*callbacks, max_epochs=8).fit(module, rows())
        return full_loss(module)

    assert final_loss(RLLearningRate()) < 0.2 * final_loss()


@pytest.mark.parametrize("chosen", [1, "Adam", ["Adam"]])
def test_optimizers_are_chosen_by_number_or_name_and_the_others_left_alone(chosen: Any) -> None:
    module = ByHand()
    callback = RLLearningRate(Policy.keep(), optimizers=chosen)
    counted = Count(callback)
    run = trainer(callback, counted)
    run.fit(module, rows())
    assert set(module.rates) == {0.01}
    assert counted.steps[-1] == [80]


def test_two_callbacks_may_share_the_optimizers_of_a_trainer_but_not_one_of_them(tmp_path: Path) -> None:
    first, second = RLLearningRate(optimizers=0), RLLearningRate(optimizers=1)
    run = trainer(first, second, max_epochs=1)
    run.fit(ByHand(), rows())
    run.save_checkpoint(tmp_path / "both.ckpt")
    again = trainer(RLLearningRate(optimizers=0), RLLearningRate(optimizers=1), max_epochs=1)
    again.fit(ByHand(), rows(), ckpt_path=tmp_path / "both.ckpt", weights_only=True)
    with pytest.raises(ValueError, match="has an RLScheduler already"):
        trainer(RLLearningRate(), RLLearningRate(optimizers=1)).fit(ByHand(), rows())


def test_with_several_optimizers_each_logs_under_its_name(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer(RLLearningRate(), logger=logger).fit(ByHand(), rows())
    tags = set(EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"])
    assert {"rl_lr/SGD/offset", "rl_lr/Adam/offset", "rl_lr/Adam/lr/group0"} <= tags


def test_an_optimizer_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(MisconfigurationException, match=r"'Lion', .* returned 0 \(SGD\), 1 \(Adam\)"):
        trainer(RLLearningRate(optimizers="Lion")).fit(ByHand(), rows())


def test_a_missing_loss_is_refused_at_the_first_step_with_the_remedy() -> None:
    with pytest.raises(MisconfigurationException, match="training_step returns none: return it"):
        trainer(RLLearningRate()).fit(ByHand(returns=False), rows())
    with pytest.raises(MisconfigurationException, match="no metric 'typo' is logged"):
        trainer(RLLearningRate(monitor="typo")).fit(ByHand(), rows())
    with pytest.raises(MisconfigurationException, match=r"monitor=.* is for manual optimization"):
        trainer(RLLearningRate(monitor="loss")).fit(Module(), rows())


def test_an_optimizer_that_steps_in_few_batches_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="Adam made a step in 10 of 40 batches") as caught:
        trainer(RLLearningRate(Policy.keep())).fit(ByHand(second_every=4), rows())
    assert sum("made a step in" in str(one.message) for one in caught) == 1
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*made a step in")
        told = RLLearningRate(Policy.keep(), optimizers=1, total_steps=20)
        trainer(told).fit(ByHand(second_every=4), rows())


@compatible("gradient accumulation, also scheduled")
def test_the_horizon_knows_scheduled_accumulation() -> None:
    callback = RLLearningRate(Policy.keep())
    counted = Count(callback)
    scheduling = GradientAccumulationScheduler({0: 1, 1: 4})
    trainer(callback, counted, scheduling, max_epochs=3).fit(Module(), rows())
    assert counted.steps[-1] == [60]  # 40 + 10 + 10
    assert callback._final[0]["controller"]["total_steps"] == 60


@compatible("gradient clipping", "works; gradients are seen as they were applied")
@pytest.mark.parametrize("how", ["norm", "value"])
def test_gradients_may_be_clipped(how: str) -> None:
    module = Module(lr=1e-4)
    run = trainer(RLLearningRate(), max_epochs=8, gradient_clip_val=1.0, gradient_clip_algorithm=how)
    run.fit(module, rows())
    assert full_loss(module) < 1.0


@compatible("precision bf16-mixed, bf16-true, 64-true")
@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", "bf16-true"])
def test_other_precisions_train(precision: Any) -> None:
    class Cast(Module):
        def loss(self, batch: list[Tensor]) -> Tensor:
            x, y = (one.to(self.network.weight.dtype) for one in batch)
            return nn.functional.mse_loss(self.network(x), y)

    module = Cast(lr=1e-4)
    trainer(RLLearningRate(), max_epochs=8, precision=precision).fit(module, rows())
    assert full_loss(module.float()) < 1.0


@compatible("torch.set_default_dtype(torch.float64)")
@pytest.mark.parametrize("granularity", ["network", "tensor"])
@pytest.mark.parametrize("policy", ["default", "dqn", "keep"])
def test_torch_may_make_numbers_of_another_kind_by_default(policy: str, granularity: Granularity) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        module = Module(0.01 if policy == "keep" else 1e-3)
        chosen = Policy.keep() if policy == "keep" else Policy.load(policy)
        callback = RLLearningRate(chosen, on_error="raise", granularity=granularity, average=True)
        trainer(callback, max_epochs=4).fit(module, rows())
        assert module.network.weight.dtype == torch.float64
        assert full_loss(module) < 0.5
    finally:
        torch.set_default_dtype(torch.float32)


@compatible("precision 16-mixed", "works; steps that the scaler skips do not count")
@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_gradient_scaler_skips_do_not_count(fused: bool) -> None:
    callback = RLLearningRate(Policy.keep())
    counted = Count(callback)
    plugin = pl.plugins.MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=256.0))
    run = trainer(callback, counted, plugins=[plugin], max_epochs=1)
    run.fit(Overflowing(fused), rows())
    assert run.global_step == 40
    assert counted.steps[-1] == [38]


@compatible("iterable data without length, max_steps=-1, max_time", "works, without annealing: one warning")
@pytest.mark.parametrize("kind", ["without length", "max_time"])
def test_without_a_horizon_the_rate_is_never_annealed_and_one_warning_says_so(kind: str) -> None:
    module, callback = Module(), RLLearningRate(Policy.keep())
    data = stream() if kind == "without length" else rows()
    settings = (
        {"max_epochs": 5} if kind == "without length" else {"max_epochs": -1, "max_time": "00:00:00:02"}
    )
    with pytest.warns(UserWarning, match="will not anneal the rate: set max_steps") as caught:
        trainer(callback, **settings).fit(module, data)
    assert sum("anneal" in str(one.message) for one in caught) == 1
    assert module.rates[:51] == [cosine(t, 1000) for t in range(51)]  # warm-up as in a run of 1000 steps
    assert set(module.rates[50:]) == {0.01}


@compatible("iterable data without length, max_steps=-1, max_time", "works, without annealing: one warning")
@pytest.mark.filterwarnings("ignore:.*will not anneal")
def test_without_a_horizon_the_shipped_policy_trains_from_a_rate_a_hundred_times_too_low() -> None:
    module = Module(lr=1e-4)
    trainer(RLLearningRate(), max_epochs=30).fit(module, stream())
    assert full_loss(module) < 1e-3


def test_max_steps_is_shared_by_optimizers_that_step_in_turn() -> None:
    module = ByHand()
    trainer(RLLearningRate(Policy.keep()), max_epochs=-1, max_steps=60).fit(module, rows())
    assert module.rates == [cosine(t, 30) for t in range(30)]


@compatible("early stopping, KeyboardInterrupt, an exception", "the optimizer gets its base rate back")
@pytest.mark.parametrize("ending", ["early", "interrupt", "exception"])
def test_however_a_fit_ends_the_base_rate_is_put_back_and_the_state_kept(ending: str) -> None:
    class Ending(pl.Callback):
        def on_train_batch_end(self, run: Any, module: Any, *_: object) -> None:
            if run.global_step == 30 and ending != "early":
                raise KeyboardInterrupt if ending == "interrupt" else RuntimeError("user code")
            module.log("loss", 1.0)

    callback, module = RLLearningRate(), Module()
    stopping = EarlyStopping("loss", patience=1, check_on_train_epoch_end=True)
    run = trainer(callback, Ending(), *([stopping] if ending == "early" else []), max_epochs=9)
    if ending == "exception":
        with pytest.raises(RuntimeError, match="user code"):
            run.fit(module, rows())
    elif ending == "interrupt":
        with pytest.raises(SystemExit):
            run.fit(module, rows())
    else:
        run.fit(module, rows())
    assert run.optimizers[0].param_groups[0]["lr"] == 0.01
    made = callback.state_dict()["optimizers"][0]["controller"]["step"]
    assert made == {"early": 80, "interrupt": 30, "exception": 30}[ending]
    trainer(RLLearningRate(), max_epochs=1).fit(module, rows())  # nothing of ours is left behind


@compatible("validate, test, predict alone, a fit without batches", "nothing happens")
@pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`")
def test_without_training_nothing_happens() -> None:
    class All(Module):
        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None: ...

        def test_step(self, batch: list[Tensor], batch_idx: int) -> None: ...

        def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return batch[0]

    callback, module = RLLearningRate(), All()
    run = trainer(callback, limit_train_batches=0)
    run.validate(module, rows(), verbose=False)
    run.test(module, rows(), verbose=False)
    run.predict(module, rows())
    run.fit(module, rows())
    assert callback.schedulers == {}
    assert callback.state_dict() == {}
