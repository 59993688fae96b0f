"""RLLearningRate beside whatever else has a say in a fit: other callbacks, compilers, strategies, namespaces."""

import math
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import pytorch_lightning as pl
import torch
from fits import QUIET, Module, full_loss, rows, trainer
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    LearningRateFinder,
    LearningRateMonitor,
    StochasticWeightAveraging,
    WeightAveraging,
)
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.tuner.tuning import Tuner
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from rl_lr.callbacks import RLLearningRate
from rl_lr.config import ControlConfig
from rl_lr.policy import Policy
from rl_lr.schedules import base_schedule

pytestmark = [pytest.mark.filterwarnings(one) for one in QUIET]


def cosine(step: int, horizon: int, base: float = 0.01) -> float:
    return base * base_schedule(step, horizon, "cosine", ControlConfig())


def compatible(what: str, verdict: str = "works") -> pytest.MarkDecorator:
    return pytest.mark.compatibility("Trainer", what, verdict)


@compatible("lr_find before the fit", "works; its suggestion is the base rate")
@pytest.mark.filterwarnings("ignore:.*not recommended to run with")
def test_the_finders_suggestion_is_the_base_rate(tmp_path: Path) -> None:
    module = Module()
    run = trainer(RLLearningRate(Policy.keep()), default_root_dir=tmp_path)
    found = Tuner(run).lr_find(module, rows(), num_training=40)
    assert found is not None
    assert found.suggestion() == module.lr != 0.01
    module.rates.clear()
    run.fit(module, rows())
    assert module.rates == [pytest.approx(cosine(t, 80, module.lr)) for t in range(80)]


@compatible("StochasticWeightAveraging", "works; its swa_lrs have no effect: one warning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_beside_weight_averaging_the_rates_are_ours_and_a_warning_says_so() -> None:
    module = Module()
    averaging = StochasticWeightAveraging(swa_lrs=0.5, swa_epoch_start=1)
    with pytest.warns(UserWarning, match="swa_lrs have no effect"):
        trainer(RLLearningRate(Policy.keep()), averaging, max_epochs=4).fit(module, rows())
    assert module.rates == [cosine(t, 160) for t in range(160)]


@compatible("WeightAveraging (exponential moving average)")
def test_a_moving_average_of_the_weights_is_left_alone() -> None:
    class Averaging(WeightAveraging):
        def __init__(self) -> None:
            super().__init__(avg_fn=lambda mean, now, count: 0.9 * mean + 0.1 * now)

    module = Module(lr=1e-4)
    trainer(RLLearningRate(), Averaging(), max_epochs=8).fit(module, rows())
    assert full_loss(module) < 1.0


@compatible("LearningRateMonitor before or after", "shows the rate of the step")
@pytest.mark.parametrize("first", [True, False])
def test_the_learning_rate_monitor_sees_the_rate_of_the_step(first: bool, tmp_path: Path) -> None:
    module, logger = Module(), TensorBoardLogger(tmp_path, name="", version="")
    both = [LearningRateMonitor("step"), RLLearningRate(Policy.keep())]
    trainer(*(both if first else both[::-1]), logger=logger, log_every_n_steps=1).fit(module, rows())
    seen = [one.value for one in EventAccumulator(str(tmp_path)).Reload().Scalars("lr-SGD")]
    assert seen[1:] == pytest.approx(module.rates[1:])


@compatible("one callback in two fits, one after the other", "starts anew")
def test_an_instance_may_be_used_again() -> None:
    callback, first, second = RLLearningRate(Policy.keep()), Module(), Module()
    trainer(callback).fit(first, rows())
    trainer(callback).fit(second, rows())
    assert first.rates == second.rates


def test_an_instance_may_be_used_again_beside_a_finder(tmp_path: Path) -> None:
    """The finder saves and restores before the fit begins, which is not to go on with the end of the one before."""
    callback, first, second = RLLearningRate(), Module(), Module()
    trainer(callback).fit(first, rows())
    finder = LearningRateFinder(num_training_steps=10, update_attr=False)
    trainer(callback, finder, default_root_dir=tmp_path).fit(second, rows())
    assert first.rates == second.rates[-80:]


@compatible(
    "optimizers replaced by others in mid-fit", "starts anew with them, for what is left: one warning"
)
@pytest.mark.parametrize("total_steps", [None, 200])
def test_optimizers_that_come_in_mid_fit_are_controlled_for_what_is_left(total_steps: int | None) -> None:
    class Replace(pl.Callback):
        def on_train_epoch_start(self, run: Any, module: Any) -> None:
            if run.current_epoch == 2:
                run.strategy.setup_optimizers(run)

    module, callback = Module(), RLLearningRate(Policy.keep(), total_steps=total_steps)
    run = trainer(callback, Replace(), max_epochs=5)
    with pytest.warns(UserWarning, match="optimizers of this fit were replaced by others") as warned:
        run.fit(module, rows())
    assert len([one for one in warned if "replaced by others" in str(one.message)]) == 1
    assert module.rates == pytest.approx(
        [cosine(t, 200) for t in range(80)] + [cosine(t, 120) for t in range(120)]
    )
    assert run.optimizers[0].param_groups[0]["lr"] == 0.01


def test_an_optimizer_that_comes_in_mid_fit_and_cannot_be_controlled_is_left_alone() -> None:
    class Replace(pl.Callback):
        def on_train_epoch_start(self, run: Any, module: Any) -> None:
            if run.current_epoch == 1:
                run.strategy.optimizers = [torch.optim.Rprop(module.parameters(), 0.02)]

    module, callback = Module(), RLLearningRate()
    with pytest.warns(UserWarning, match="lets new optimizers keep .*Rprop cannot be controlled"):
        trainer(callback, Replace(), max_epochs=3).fit(module, rows())
    assert module.rates[40:] == [0.02] * 80
    assert full_loss(module) < 0.05


@compatible("modules compiled by torch.compile")
def test_a_compiled_module_trains_the_same_run() -> None:
    plain, compiled = Module(), Module()
    compiled.network.compile(backend="aot_eager")
    for module in (plain, compiled):
        trainer(RLLearningRate()).fit(module, rows())
    assert torch.allclose(plain.network.weight, compiled.network.weight, atol=1e-5)


@compatible("parameter groups with rates of their own, one added in mid-run", "ratios are kept")
def test_layers_that_thaw_in_mid_run_get_the_same_multiplier() -> None:
    class Thaw(pl.Callback):
        def on_train_epoch_start(self, run: Any, module: Any) -> None:
            if run.current_epoch == 1:
                run.optimizers[0].add_param_group({"params": [module.late], "lr": 0.02})

    class Late(Module):
        def __init__(self) -> None:
            super().__init__()
            self.late = nn.Parameter(torch.zeros(1))

        def loss(self, batch: list[Tensor]) -> Tensor:
            return nn.functional.mse_loss(self.network(batch[0]) + self.late, batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.network.parameters(), self.lr)

    module = Late()
    run = trainer(RLLearningRate(), Thaw(), max_epochs=2)
    ratios: list[float] = []

    class Watch(pl.Callback):
        def on_before_optimizer_step(self, run: Any, module: Any, optimizer: Any) -> None:
            groups = optimizer.param_groups
            ratios.extend(one["lr"] / groups[0]["lr"] for one in groups[1:])

    run.callbacks.append(Watch())
    run.fit(module, rows())
    assert ratios == [pytest.approx(2.0)] * 40


@compatible(
    "BackboneFinetuning",
    "new layers get their share of the base rate; how it grows has no effect: one warning",
)
def test_a_backbone_that_thaws_gets_its_share_of_the_base_rate() -> None:
    class Backbone(Module):
        def __init__(self) -> None:
            super().__init__(lr=1e-4)
            self.backbone = nn.Linear(8, 8)

        def loss(self, batch: list[Tensor]) -> Tensor:
            return nn.functional.mse_loss(self.network(self.backbone(batch[0])), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], self.lr)

    shares: list[float] = []

    class Watch(pl.Callback):
        def on_before_optimizer_step(self, run: Any, module: Any, optimizer: Any) -> None:
            rates = [group["lr"] for group in optimizer.param_groups]
            shares.extend(rate / rates[0] for rate in rates[1:])

    split = RLLearningRate(granularity="tensor")
    with pytest.raises(MisconfigurationException, match="no fit could be resumed: use granularity='network'"):
        trainer(split, BackboneFinetuning(unfreeze_backbone_at_epoch=2)).fit(Backbone(), rows())
    thaw = BackboneFinetuning(unfreeze_backbone_at_epoch=2, verbose=False)
    module = Backbone()
    with pytest.warns(UserWarning, match="how it raises their rate later has no effect"):
        trainer(RLLearningRate(), thaw, Watch(), max_epochs=8).fit(module, rows())
    assert shares == [pytest.approx(0.1)] * 6 * 40
    with torch.no_grad():
        x, y = rows().dataset[:]
        assert nn.functional.mse_loss(module.network(module.backbone(x)), y) < 0.1


@compatible("both namespaces, lightning.pytorch and pytorch_lightning")
def test_it_works_in_the_other_namespace_whose_accumulation_is_known_too() -> None:
    class Twin(lightning.pytorch.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Linear(8, 1)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return nn.functional.mse_loss(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), 1e-3)

    callback = RLLearningRate()
    scheduling = lightning.pytorch.callbacks.GradientAccumulationScheduler({1: 4})
    run = trainer(callback, scheduling, namespace=lightning.pytorch)
    run.fit(Twin(), rows())
    assert callback._final[0]["controller"]["total_steps"] == 50
    assert math.isfinite(run.callback_metrics["rl_lr/lr"])


@compatible("DeepSpeed", "refused: its engine makes the steps itself")
def test_deepspeed_is_refused_with_the_reason() -> None:
    class DeepSpeedStrategy(pl.strategies.SingleDeviceStrategy):
        """Stands in by its name: the package is not installed."""

    run = trainer(RLLearningRate(), strategy=DeepSpeedStrategy("cpu"))
    with pytest.raises(MisconfigurationException, match="DeepSpeedStrategy, whose engine makes the steps"):
        run.fit(Module(), rows())
