import gc
import threading
import time
import traceback
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import pytest
import pytorch_lightning as pl
import torch
from fits import QUIET, Module, rows, trainer
from gymnasium.utils.env_checker import check_env
from torch import Tensor, nn
from torch.utils.data import DataLoader

from rl_lr import Policy, train
from rl_lr.callbacks import RLLearningRate
from rl_lr.config import ControlConfig, DrawConfig, TrainConfig
from rl_lr.envs import LearningRateEnv, LightningFit
from rl_lr.groups import begin
from rl_lr.randomness import seed_all
from rl_lr.rollout import Draw
from rl_lr.tasks.check import check
from rl_lr.workers import Processes

pytestmark = [pytest.mark.filterwarnings(text) for text in QUIET]

EPOCHS = {"max_epochs": 3, "accelerator": "cpu"}


class Noisy(Module):
    """Draws random numbers in every step."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.loss([batch[0] + 0.1 * torch.randn_like(batch[0]), batch[1]])


class Validated(Module):
    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def val_dataloader(self) -> DataLoader[Any]:
        return rows(64)


class Failing(Module):
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        if self.global_step == 100:
            raise ZeroDivisionError("in the hundredth step")
        return self.loss(batch)


class Adversaries(Module):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.zero_grad()
        self.manual_backward(loss)
        for optimizer in cast("list[Any]", self.optimizers()):
            optimizer.step()
        return loss.detach()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD([self.network.weight], 0.01), torch.optim.Adam([self.network.bias], 0.01)]


class Quitter(pl.Callback):
    """Stops fits whose loss is below that of others."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        if trainer.global_step >= 60 and trainer.optimizers[0].param_groups[0]["lr"] > 1e-3:
            trainer.should_stop = True


def played(
    env: LightningFit, policy: Policy, disturb: bool = False, **options: Any
) -> tuple[Tensor, dict[str, Any]]:
    """Everything seen until the end, and the last info."""
    observation, _ = env.reset(options=options)
    seen, over = [torch.from_numpy(observation)], False
    info: dict[str, Any] = {}
    while not over:
        if disturb:
            torch.randn(7), np.random.rand(3)
        observation, _, over, _, info = env.step(policy.act(seen[-1][None]).numpy())
        seen.append(torch.from_numpy(observation))
    return torch.stack(seen), info


def test_a_policy_that_plays_it_trains_the_same_weights_as_the_callback_that_deploys_it() -> None:
    made: list[Module] = []

    def module() -> Module:
        made.append(Noisy())
        return made[-1]

    policy = Policy.load("default")
    played(LightningFit(module, rows, EPOCHS), policy, seed=5, factor=1.0)
    seed_all(5)
    deployed = Noisy()
    trainer(RLLearningRate(policy), **EPOCHS).fit(deployed, rows())
    assert torch.equal(made[-1].network.weight, deployed.network.weight)


def test_what_the_caller_draws_between_decisions_changes_nothing_and_the_other_way_round() -> None:
    env, policy = LightningFit(Noisy, rows, EPOCHS), Policy.load("default")
    seen, info = played(env, policy, seed=5, factor=0.1)
    torch.manual_seed(0)
    again, same = played(env, policy, disturb=True, seed=5, factor=0.1)
    assert torch.equal(seen, again)
    assert info == same
    drawn = torch.randn(1)
    torch.manual_seed(0)
    for _ in range(len(again) - 1):
        torch.randn(7)
    assert torch.equal(drawn, torch.randn(1))


def test_it_keeps_the_contract_of_gymnasium() -> None:
    env = LightningFit(Module, rows, EPOCHS)
    check_env(env, skip_render_check=True)
    env.close()


def test_a_fit_that_is_closed_in_its_middle_leaves_no_thread_and_no_process() -> None:
    def loader() -> DataLoader[Any]:
        return DataLoader(rows().dataset, batch_size=16, num_workers=1)

    threads, children = set(threading.enumerate()), len(psutil.Process().children())
    env = LightningFit(Module, loader, EPOCHS)
    env.reset(seed=0)
    env.step(np.zeros(1, np.float32))
    assert len(psutil.Process().children()) == children + 1
    env.close()
    gc.collect()  # the loader's queues have threads, which end with them
    while set(threading.enumerate()) - threads:
        time.sleep(0.01)
    assert len(psutil.Process().children()) == children


def test_what_user_code_raises_surfaces_in_step_with_its_own_traceback() -> None:
    env = LightningFit(Failing, rows, {"max_epochs": 5})
    with pytest.raises(ZeroDivisionError, match="hundredth step") as caught:
        played(env, Policy.keep(), seed=0)
    assert "training_step" in {frame.name for frame in traceback.extract_tb(caught.tb)}
    assert all(thread.name != "rl-lr-fit" for thread in threading.enumerate())


def test_the_result_is_what_is_monitored_before_and_after() -> None:
    _, trained = played(LightningFit(Validated, rows, EPOCHS), Policy.keep(), seed=0, factor=1.0)
    _, info = played(
        LightningFit(Validated, rows, EPOCHS, monitor="val_loss"), Policy.keep(), seed=0, factor=1.0
    )
    module = Validated()
    batches = list(rows(64))
    start = np.mean([module.loss(batch).item() for batch in batches])
    assert info["initial_loss"] == pytest.approx(start, rel=1e-5)
    assert info["final_loss"] < 0.5 * start
    assert trained["initial_loss"] != info["initial_loss"]


def test_what_a_run_begins_with_is_measured_on_many_rows_whatever_its_rate() -> None:
    """Regression: the loss of one mini-batch, now and then far below the others, made good runs look lost."""
    losses = [
        played(LightningFit(Module, rows, EPOCHS), Policy.keep(), seed=0, factor=factor)[1]["initial_loss"]
        for factor in (0.01, 10.0)
    ]
    batches = list(rows())[:12]  # a tenth of the steps, of three epochs
    assert losses[0] == losses[1] == pytest.approx(np.mean([Module().loss(one).item() for one in batches]))


def test_fits_of_a_group_and_seed_share_what_they_begin_with_and_measure_it_once() -> None:
    built: list[Module] = []

    def module() -> Module:
        built.append(Module())
        return built[-1]

    fit = LightningFit(module, rows, EPOCHS)
    control = replace(ControlConfig(), decisions=4, warmup_decisions=2)
    with closing(fit.begin(Draw(fit, (0, 1, 0), (0.1, 1.0, 10.0), 120), control)) as group:
        assert len(built) == 3 + 2  # a module for each fit, and one for each seed
        while not group.done:
            group.advance(torch.zeros(3))
    alone = played(LightningFit(Module, rows, EPOCHS), Policy.keep(), seed=0, factor=0.1)[1]["initial_loss"]
    # Module's weights and rows are the same under all seeds.
    assert group.initial_loss.tolist() == [alone] * 3


def test_of_several_optimizers_one_is_chosen() -> None:
    _, info = played(
        LightningFit(Adversaries, rows, EPOCHS, optimizer="Adam"), Policy.keep(), seed=0, factor=2.0
    )
    assert info["step"] == 120
    with pytest.raises(ValueError, match="several optimizers, SGD, Adam: choose"):
        LightningFit(Adversaries, rows, EPOCHS).reset()


class Shifted(Module):
    def loss(self, batch: list[Tensor]) -> Tensor:
        return super().loss(batch) - 100.0


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        (
            LightningFit(lambda: nn.Linear(1, 1), rows),  # type: ignore[arg-type, return-value]
            "returned Linear: it must build a LightningModule",
        ),
        (LightningFit(Module), "nothing to train on"),
        (LightningFit(Module, pl.LightningDataModule), "nothing to train on"),
        (LightningFit(Module, lambda: 3), "got int"),
        (
            LightningFit(Module, rows, {"max_steps": 30}),
            "makes 30 optimizer steps, fewer than the 56 decisions",
        ),
        (LightningFit(Validated, rows, EPOCHS, monitor="accuracy"), r"logs \['val_loss'\]: name one"),
        (LightningFit(lambda: Module(scheduler=True), rows, EPOCHS), "scheduler"),
        (
            LightningFit(Shifted, rows, EPOCHS),
            "training loss of 'Shifted' is -.* judge by a loss that is above zero",
        ),
        (LightningFit(Module, rows, {"max_steps": -1, "max_time": "00:00:01:00"}), "set max_steps"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_a_sentence(env: LightningFit, reason: str) -> None:
    with pytest.raises(Exception, match=reason):
        env.reset(seed=0)
    assert all(thread.name != "rl-lr-fit" for thread in threading.enumerate())


def test_an_action_before_a_fit_has_begun_is_refused_and_so_is_a_factor_below_one() -> None:
    with pytest.raises(Exception, match="Call reset"):
        LightningFit(Module, rows).step(np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="misfactor is 0"):
        LightningFit(Module, rows, misfactor=0.5)


def test_the_environments_of_the_engine_refuse_a_fit() -> None:
    with pytest.raises(TypeError, match="is a fit"):
        LearningRateEnv(LightningFit(Module, rows, EPOCHS)).reset(seed=0)  # type: ignore[arg-type]


def test_a_fit_that_is_not_deterministic_is_told_from_one_that_is() -> None:
    class Drifting(Module):
        steps = 0

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            Drifting.steps += 1
            return self.loss(batch) * (1.0 + 0.01 * Drifting.steps)

    check(LightningFit(Noisy, rows, EPOCHS))
    with pytest.raises(ValueError, match="not deterministic"):
        check(LightningFit(Drifting, rows, EPOCHS))


def test_training_on_fits_gives_the_same_policy_in_this_process_and_in_others(tmp_path: Path) -> None:
    config = TrainConfig(members=1, iterations=1, groups=2, group_size=2, hidden=(8,), validate_every=0)
    fit = LightningFit(Noisy, rows, EPOCHS, name="noisy")
    here = train(tmp_path / "here", [fit], config)
    there = train(tmp_path / "there", [fit], config, workers=Processes(2))
    assert all(
        torch.equal(ours, theirs)
        for a, b in zip(here.layers, there.layers, strict=True)
        for ours, theirs in zip(a, b, strict=True)
    )
    assert here.provenance["tasks"] == ["noisy"]


def test_fits_that_end_early_wait_for_the_others(tmp_path: Path) -> None:
    fit = LightningFit(Module, rows, EPOCHS | {"callbacks": [Quitter()]})
    config = TrainConfig(members=1, iterations=1, groups=1, group_size=3, hidden=(8,), validate_every=0)
    assert train(tmp_path, [fit], config).provenance["runs"] == 3


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"granularity": "tensor"}, "stepped with one rate for the network"),
        ({"average": True}, "the results of fits are their last weights"),
    ],
)
def test_as_a_group_it_has_one_rate_and_no_average(settings: dict[str, Any], reason: str) -> None:
    drawn = Draw(LightningFit(Module, rows, EPOCHS), (0,), (0.1,), 80)
    with pytest.raises(ValueError, match=reason):
        begin(drawn, **settings)


@pytest.mark.parametrize("averaged", [False, True])
def test_fits_are_mixed_with_the_families_of_the_default_policy(tmp_path: Path, averaged: bool) -> None:
    config = TrainConfig(
        iterations=1, groups=4, group_size=2, averaged=averaged, validation_groups=1, draw=DrawConfig(60, 90)
    )
    fit = LightningFit(Module, rows, EPOCHS, name="regression")
    policy = train(tmp_path, [fit, "built-in"], config, start="default")
    assert policy.provenance["tasks"] == ["regression", "built-in"]
    assert (tmp_path / "checkpoints" / "00001").is_dir()
