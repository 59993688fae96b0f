"""What befalls a fit, and what then happens: the faults of a long run, on real Trainers."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from fits import QUIET, ByHand, Module, full_loss, rows, trainer
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from rl_lr.callbacks import RLLearningRate
from rl_lr.config import ControlConfig
from rl_lr.policy import Policy
from rl_lr.schedules import base_schedule

pytestmark = [pytest.mark.filterwarnings(one) for one in QUIET]

EARLIER = str(Path(__file__).parents[1] / "docs/results/policies/earlier")
"""The policy by which the guard's bounds were found: what they say of the guard stays, whichever policy ships."""


def fault(what: str, outcome: str) -> pytest.MarkDecorator:
    return pytest.mark.compatibility("Faults", what, outcome)


class Faulty(Module):
    """Spoils the loss of some steps."""

    def __init__(self, spoil: dict[int, float], lr: float = 0.01) -> None:
        super().__init__(lr)
        self.spoil = spoil

    def loss(self, batch: list[Tensor]) -> Tensor:
        return super().loss(batch) * self.spoil.get(self.trainer.global_step, 1.0)


@fault(
    "NaN or infinite loss", "weights of the last healthy decision, a tenth of the rate; counted and logged"
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("length", [1, 3, 10])
def test_a_run_whose_loss_is_not_finite_for_a_while_ends_healthy(
    value: float, length: int, tmp_path: Path
) -> None:
    module, logger = Faulty({100 + k: value for k in range(length)}), TensorBoardLogger(tmp_path)
    trainer(RLLearningRate(), max_epochs=8, logger=logger).fit(module, rows())
    assert full_loss(module) < 0.05
    events = EventAccumulator(logger.log_dir).Reload()
    assert max(event.value for event in events.Scalars("rl_lr/guard_events")) >= 1
    assert max(event.value for event in events.Scalars("rl_lr/rewinds")) >= 1


@fault("NaN or infinite gradient under a finite loss", "weights of the last healthy decision")
def test_a_gradient_that_is_not_finite_does_not_end_the_run() -> None:
    class Spoil(pl.Callback):
        def on_before_optimizer_step(self, run: Any, module: Any, optimizer: Any) -> None:
            if run.global_step == 100:
                module.network.weight.grad.fill_(float("nan"))

    module = Module()
    trainer(RLLearningRate(), Spoil(), max_epochs=8).fit(module, rows())
    assert full_loss(module) < 0.05


@fault(
    "losses that scatter widely, in a short run",
    "not taken for a fall; a cut that the next loss shows to be chance is taken back",
)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("batch", "tails"), [(4, 0.0), (16, 1.0)])
@pytest.mark.parametrize(("policy", "missing"), [(EARLIER, 1e-3), ("default", 0.05)])
def test_noise_in_a_short_run_is_not_taken_for_a_fall(
    policy: str, missing: float, batch: int, tails: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(640, 8, generator=generator)
    y = x.sum(dim=1, keepdim=True) * torch.exp(tails * torch.randn(640, 1, generator=generator))
    data = DataLoader(TensorDataset(x, y), batch, shuffle=True, generator=generator)
    module, callback = Module(lr=5e-4), RLLearningRate(policy)  # a hundred times too low
    trainer(callback, max_epochs=None, max_steps=160).fit(module, data)
    assert int(callback._final[0]["controller"]["rewinds"]) == 0
    solved = torch.linalg.lstsq(torch.cat((x, torch.ones(640, 1)), dim=1), y).solution
    least = nn.functional.mse_loss(x @ solved[:8] + solved[8:], y)
    with torch.no_grad():
        reached = nn.functional.mse_loss(module.network(x), y)
    assert reached < 1.02 * least + missing * y.square().mean()


@fault(
    "a loss that rises for good, as its data changed",
    "goes on at the rate that it had, after five returns in vain",
)
@pytest.mark.parametrize(("policy", "changes"), [(EARLIER, 400), ("default", 300)])
def test_a_loss_that_rises_for_good_does_not_end_the_training(policy: str, changes: int) -> None:
    class Changing(Module):
        def loss(self, batch: list[Tensor]) -> Tensor:
            x, y = batch
            late = self.trainer.global_step >= changes
            return super().loss([x, 3.0 * y.flip(0) + 5.0 if late else y])

    module, callback = Changing(), RLLearningRate(policy)
    trainer(callback, max_epochs=20).fit(module, rows())
    (state,) = callback.state_dict()["optimizers"].values()
    assert int(state["controller"]["rewinds"]) == 5
    assert float(module.network.bias.detach()) == pytest.approx(5.0, abs=0.5)


@fault(
    "losses below zero, or with a constant in them",
    "work; a fit ends about where it would without the constant",
)
@pytest.mark.parametrize("rate", [5e-4, 5.0])
@pytest.mark.parametrize("constant", [-5.0, -1.0, 50.0])
def test_it_hardly_matters_where_the_zero_of_a_loss_is(constant: float, rate: float) -> None:
    class Shifted(Module):
        def loss(self, batch: list[Tensor]) -> Tensor:
            return super().loss(batch) + constant

    module = Shifted(rate)
    trainer(RLLearningRate(), max_epochs=8).fit(module, rows())
    assert full_loss(module) < 0.01


@fault(
    "losses below zero, or with a constant in them",
    "work; a fit ends about where it would without the constant",
)
@pytest.mark.parametrize("rate", [3e-5, 0.3])
def test_a_likelihood_whose_variance_is_learned_is_followed_below_zero(rate: float) -> None:
    class Likelihood(Module):
        """Mean by the network, one variance for all rows; -log p, but for a constant."""

        def __init__(self) -> None:
            super().__init__(rate)
            self.log_deviation = nn.Parameter(torch.zeros(()))

        def loss(self, batch: list[Tensor]) -> Tensor:
            scaled = (self.network(batch[0]) - batch[1]) / self.log_deviation.exp()
            loss: Tensor = self.log_deviation + scaled.square().mean() / 2.0
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), self.lr)

    x = torch.randn(640, 8)
    y = x.sum(dim=1, keepdim=True) + 0.05 * torch.randn(640, 1)
    module = Likelihood()
    trainer(RLLearningRate(), max_epochs=40).fit(module, DataLoader(TensorDataset(x, y), 16, shuffle=True))
    with torch.no_grad():
        assert module.loss([x, y]) < math.log(0.05) + 0.5 + 0.1


@fault("loss and gradients of exactly zero", "signals stay finite")
def test_a_loss_of_zero_is_no_obstacle() -> None:
    module = Faulty(dict.fromkeys(range(40, 200), 0.0))
    callback = RLLearningRate()
    seen: list[Tensor] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, *_: object) -> None:
            assert callback.scheduler is not None
            assert callback.scheduler.latest_signals is not None
            seen.append(callback.scheduler.latest_signals)

    trainer(callback, Watch(), max_epochs=5).fit(module, rows())
    assert torch.stack(seen).isfinite().all()
    assert torch.isfinite(module.network.weight).all()


@fault("training_step returns None", "the step does not count")
@pytest.mark.filterwarnings("ignore:.*returned `None`")
def test_a_step_without_a_loss_does_not_count() -> None:
    class Skipping(Module):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
            return None if batch_idx % 4 == 0 else super().training_step(batch, batch_idx)

    callback = RLLearningRate(Policy.keep())
    trainer(callback, max_epochs=1).fit(Skipping(), rows())
    assert callback.state_dict()["optimizers"][0]["controller"]["step"] == 30


@fault("frozen layers, parameters without gradient", "left out; nothing trainable is refused at the start")
def test_frozen_and_unused_parameters_are_no_obstacle() -> None:
    class Partly(Module):
        def __init__(self, frozen: bool) -> None:
            super().__init__(lr=1e-4)
            self.unused = nn.Parameter(torch.ones(5))
            self.network.bias.requires_grad_(False)
            self.network.weight.requires_grad_(not frozen)
            self.unused.requires_grad_(not frozen)

    module = Partly(frozen=False)
    trainer(RLLearningRate(), max_epochs=8).fit(module, rows())
    assert full_loss(module) < 1.0
    assert torch.equal(module.unused, torch.ones(5))
    with pytest.raises(ValueError, match="no trainable parameters"):
        trainer(RLLearningRate()).fit(Partly(frozen=True), rows())


@fault(
    "an action that is NaN or absurd",
    "the rate stays; a change is at most one nat per decision, two in the warm-up",
)
@pytest.mark.parametrize("action", [float("nan"), float("inf"), 1e9])
def test_an_absurd_action_does_no_harm(action: float) -> None:
    class Absurd(Policy):
        def act(self, signals: Tensor) -> Tensor:
            return torch.full((len(signals),), action)

    keep, module = Policy.keep(), Module()
    absurd = Absurd(keep.layers, keep.control, {}, "absurd")
    trainer(RLLearningRate(absurd), max_epochs=3).fit(module, rows())
    steps = [rate / max(module.rates[max(0, t - 2) : t]) for t, rate in enumerate(module.rates) if t]
    assert max(steps) < 24.0  # at most two nats in the warm-up, besides the base schedule's own rise
    assert torch.isfinite(module.network.weight).all()


@fault("a policy that always says keep", "bitwise the weights of the base schedule without callback")
@pytest.mark.parametrize("kind", ["automatic", "by hand", "accumulating", "bf16-mixed", "each tensor"])
def test_keeping_trains_the_bits_of_the_base_schedule(kind: str) -> None:
    class BySchedule(pl.Callback):
        """The base schedule and nothing else."""

        def __init__(self, horizon: int) -> None:
            self.horizon, self.steps = horizon, 0

        def on_train_batch_start(self, run: Any, module: Any, batch: Any, batch_idx: int) -> None:
            value = base_schedule(self.steps, self.horizon, "cosine", ControlConfig())
            for optimizer in run.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = 0.01 * value
            self.steps += (batch_idx + 1) % run.accumulate_grad_batches == 0

    settings: dict[str, Any] = {}
    if kind == "accumulating":
        settings["accumulate_grad_batches"] = 4
    if kind == "bf16-mixed":
        settings["precision"] = kind
    keep = RLLearningRate(Policy.keep(), granularity="tensor" if kind == "each tensor" else "network")
    ours, plain = (ByHand() if kind == "by hand" else Module() for _ in range(2))
    trainer(keep, max_epochs=3, **settings).fit(ours, rows())
    trainer(BySchedule(30 if kind == "accumulating" else 120), max_epochs=3, **settings).fit(plain, rows())
    assert torch.equal(ours.network.weight, plain.network.weight)
    assert torch.equal(ours.network.bias, plain.network.bias)


KILLED = """
import os, signal, sys, warnings
warnings.filterwarnings("ignore")
import torch
torch.set_num_threads(1)
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from fits import Module, rows, trainer
from rl_lr.callbacks import RLLearningRate

folder, kill_at, resume = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resume"

class Kill(pl.Callback):
    def on_train_batch_end(self, run, *_):
        if run.global_step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

module = Module()
saving = pl.callbacks.ModelCheckpoint(folder, filename="last", enable_version_counter=False)
logger = TensorBoardLogger(folder, name="", version="logs")
run = trainer(RLLearningRate(), saving, Kill(), max_epochs=4, enable_checkpointing=True, logger=logger)
run.fit(module, rows(), ckpt_path=folder + "/last.ckpt" if resume else None)
torch.save(module.state_dict(), folder + "/weights.pt")
"""


@fault("kill -9, then resume from the last epoch", "bitwise the same weights and the same TensorBoard curve")
def test_a_killed_fit_resumes_to_the_same_bits(tmp_path: Path) -> None:
    def run(folder: Path, kill_at: int = 0, mode: str = "begin") -> int:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", KILLED, str(folder), str(kill_at), mode]
        paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        return subprocess.run(
            command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, check=False
        ).returncode

    def curve(folder: Path) -> dict[int, float]:
        events = EventAccumulator(str(folder / "logs")).Reload()
        return {one.step: one.value for one in events.Scalars("rl_lr/lr/group0")}

    assert run(tmp_path / "whole") == 0
    assert run(tmp_path / "killed", kill_at=107) == -signal.SIGKILL
    assert run(tmp_path / "killed", mode="resume") == 0
    whole, resumed = (torch.load(tmp_path / name / "weights.pt") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert curve(tmp_path / "whole") == curve(tmp_path / "killed")


@fault("resume for more or fewer epochs", "goes on at the rate that it had, towards the new end: one warning")
@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint need to be provided")
def test_a_fit_resumed_with_more_epochs_is_annealed_at_its_new_end(tmp_path: Path) -> None:
    saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="{epoch}")
    first = Module()
    trainer(RLLearningRate(Policy.keep()), saving, enable_checkpointing=True).fit(first, rows())
    second = Module()
    with pytest.warns(UserWarning, match="planned for 80 steps and has made 80; it goes on towards 160"):
        trainer(RLLearningRate(Policy.keep()), max_epochs=4).fit(
            second, rows(), ckpt_path=tmp_path / "epoch=1.ckpt"
        )
    assert second.rates[0] == pytest.approx(0.01 * base_schedule(80, 80, "cosine", ControlConfig()), rel=1e-3)
    assert len(second.rates) == 80


@fault("resume without the callback", "goes on at the last rate; Lightning warns that a callback is missing")
def test_a_checkpoint_resumes_without_the_callback(tmp_path: Path) -> None:
    saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="{epoch}")
    first, second = Module(), Module()
    trainer(RLLearningRate(total_steps=160), saving, enable_checkpointing=True).fit(first, rows())
    with pytest.warns(UserWarning, match="RLLearningRate"):
        trainer(max_epochs=4).fit(second, rows(), ckpt_path=tmp_path / "epoch=1.ckpt")
    assert second.rates == pytest.approx([first.rates[-1]] * 80, rel=0.2)
    assert full_loss(second) < 1e-6


@fault("resume from a checkpoint made without the callback", "starts anew for what is left: one warning")
@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint need to be provided")
def test_a_checkpoint_made_without_the_callback_is_gone_on_with(tmp_path: Path) -> None:
    saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="{epoch}")
    trainer(saving, enable_checkpointing=True).fit(Module(), rows())
    module = Module()
    with pytest.warns(UserWarning, match="made without RLLearningRate") as caught:
        trainer(RLLearningRate(Policy.keep()), max_epochs=4).fit(
            module, rows(), ckpt_path=tmp_path / "epoch=1.ckpt"
        )
    assert sum("made without" in str(one.message) for one in caught) == 1
    assert module.rates == [0.01 * base_schedule(t, 80, "cosine", ControlConfig()) for t in range(80)]
