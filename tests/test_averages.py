"""RLLearningRate(average=True) on real Trainers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from fits import QUIET, ByHand, Module, full_loss, rows, stream, trainer
from pytorch_lightning.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from torch import Tensor, nn

from rl_lr.callbacks import RLLearningRate

MOVED = [
    "ignore:The dirpath has changed",
    "ignore:.*callbacks used to create the checkpoint need to be provided",
]
pytestmark = [pytest.mark.filterwarnings(one) for one in (*QUIET, *MOVED)]


def compatible(what: str, verdict: str = "works") -> pytest.MarkDecorator:
    return pytest.mark.compatibility("Averaged weights", what, verdict)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Noisy(Module):
    """Linear regression on a target with noise, with running statistics; remembers what was validated."""

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__(lr)
        self.norm = nn.BatchNorm1d(8)
        self.validated: list[dict[str, Tensor]] = []

    def loss(self, batch: list[Tensor]) -> Tensor:
        noise = torch.randn(
            len(batch[1]), 1, generator=torch.Generator().manual_seed(int(batch[0][0, 0] * 1e6))
        )
        return nn.functional.mse_loss(self.network(self.norm(batch[0])), batch[1] + 2.0 * noise)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        if batch_idx == 0:
            self.validated.append(state(self))


class Watch(pl.Callback):
    """What is trained after each epoch, and what the scheduler says its average is."""

    def __init__(self, callback: RLLearningRate) -> None:
        self.callback = callback
        self.trained: list[dict[str, Tensor]] = []
        self.averaged: list[dict[str, Tensor]] = []

    def on_train_epoch_end(self, run: Any, module: Any) -> None:
        self.trained.append(state(module))
        assert self.callback.scheduler is not None
        with self.callback.scheduler.averaged():
            self.averaged.append(state(module))


def ours(**settings: Any) -> RLLearningRate:
    return RLLearningRate(average=True, total_steps=160, **settings)


@compatible("average=True", "validated, in checkpoints, and left in the module; training does not notice")
def test_the_average_is_validated_and_stays_in_the_module_and_training_does_not_notice() -> None:
    plain = Noisy()
    theirs = RLLearningRate(total_steps=160)
    without = Watch(theirs)
    without.on_train_epoch_end = lambda run, module: without.trained.append(state(module))  # type: ignore[method-assign]
    trainer(theirs, without).fit(plain, rows(), rows(32))
    module, callback = Noisy(), ours()
    watch = Watch(callback)
    trainer(callback, watch).fit(module, rows(), rows(32))
    for bare, trained in zip(without.trained, watch.trained, strict=True):
        assert same(bare, trained)
    _, *validated = module.validated  # the first is the sanity check before the fit
    assert len(validated) == 2
    for seen, average, trained in zip(validated, watch.averaged, watch.trained, strict=True):
        assert same(seen, average)
        assert not torch.equal(seen["network.weight"], trained["network.weight"])
        assert not torch.equal(seen["norm.running_mean"], trained["norm.running_mean"])
    assert same(state(module), watch.averaged[-1])


@compatible("a fit with it, resumed", "bitwise the same weights and averages")
@pytest.mark.parametrize("granularity", ["network", "tensor"])
@pytest.mark.parametrize("build", [Noisy, ByHand])
def test_a_fit_resumed_with_an_average_is_bitwise_the_uninterrupted_one_and_its_checkpoint_holds_both(
    granularity: Any, build: Callable[[], Module], tmp_path: Path
) -> None:
    def fit(epochs: int, folder: str, resume: Path | None = None) -> Module:
        module = build()
        saving = pl.callbacks.ModelCheckpoint(tmp_path / folder, filename="{epoch}", save_top_k=-1)
        run = trainer(ours(granularity=granularity), saving, max_epochs=epochs, enable_checkpointing=True)
        run.fit(module, rows(), rows(32) if build is Noisy else None, ckpt_path=resume)
        return module

    def saved(folder: str, epoch: int) -> dict[str, Any]:
        return torch.load(tmp_path / folder / f"epoch={epoch}.ckpt", weights_only=True)  # type: ignore[no-any-return]

    whole = fit(4, "whole")
    half = fit(2, "half")
    middle = saved("half", 1)
    assert same(middle["state_dict"], state(half))
    assert not torch.equal(middle["current_model_state"]["network.weight"], state(half)["network.weight"])
    resumed = fit(4, "resumed", tmp_path / "half" / "epoch=1.ckpt")
    assert same(state(resumed), state(whole))
    for part in ("state_dict", "current_model_state"):
        assert same(saved("resumed", 3)[part], saved("whole", 3)[part])
    assert whole.rates[80:] == resumed.rates


def test_a_checkpoint_written_while_the_average_is_validated_holds_both_as_well(tmp_path: Path) -> None:
    class Save(pl.Callback):
        def on_validation_epoch_end(self, run: Any, module: Any) -> None:
            if not run.sanity_checking:
                run.save_checkpoint(tmp_path / "within.ckpt")

    callback = ours()
    watch = Watch(callback)
    trainer(callback, watch, Save(), max_epochs=1).fit(Noisy(), rows(), rows(32))
    within = torch.load(tmp_path / "within.ckpt", weights_only=True)
    assert same(within["state_dict"], watch.averaged[0])
    assert same(within["current_model_state"], watch.trained[0])


def test_a_checkpoint_does_not_hold_the_average_twice(tmp_path: Path) -> None:
    class Wide(Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Sequential(nn.Linear(8, 50_000), nn.Linear(50_000, 1))  # type: ignore[assignment]

    def size(average: bool) -> int:
        folder = tmp_path / str(average)
        saving = pl.callbacks.ModelCheckpoint(folder, filename="one")
        callback = RLLearningRate(total_steps=2, average=average)
        run = trainer(callback, saving, max_epochs=1, limit_train_batches=2, enable_checkpointing=True)
        run.fit(Wide(), rows())
        return (folder / "one.ckpt").stat().st_size

    without = size(average=False)
    assert 1.9 * without < size(average=True) < 2.1 * without


def test_the_average_of_a_checkpoint_is_what_is_validated_alone(tmp_path: Path) -> None:
    module = Noisy()
    saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="end")
    run = trainer(ours(), saving, enable_checkpointing=True)
    run.fit(module, rows(), rows(32))
    expected, again = state(module), Noisy()
    trainer(ours()).validate(again, rows(32), ckpt_path=tmp_path / "end.ckpt", verbose=False)
    assert same(again.validated[0], expected)
    assert same(state(Noisy.load_from_checkpoint(tmp_path / "end.ckpt")), expected)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_fails_in_validation_leaves_the_weights_that_are_trained(error: type[BaseException]) -> None:
    class Failing(Noisy):
        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            super().validation_step(batch, batch_idx)
            if self.trainer.current_epoch == 1:
                raise error("user code")

    module, callback = Failing(), ours()
    watch = Watch(callback)
    with pytest.raises(SystemExit if error is KeyboardInterrupt else error):
        trainer(callback, watch, num_sanity_val_steps=0).fit(module, rows(), rows(32))
    assert len(module.validated) == 2
    assert not same(module.validated[1], state(module))
    if len(watch.trained) == 2:
        assert same(watch.trained[1], state(module))


def test_a_fit_of_unknown_length_ends_lower_by_its_average_and_no_warning_asks_for_a_length() -> None:
    class Fresh(Module):
        """Noise on the targets that differs in every step."""

        def loss(self, batch: list[Tensor]) -> Tensor:
            noise = torch.Generator().manual_seed(self.trainer.global_step)
            return super().loss([batch[0], batch[1] + torch.randn(batch[1].shape, generator=noise)])

    def end(average: bool) -> float:
        module = Fresh()
        trainer(RLLearningRate(average=average), max_epochs=30).fit(module, stream())
        return full_loss(module)

    with pytest.warns(UserWarning, match="average=True, which makes up for it"):
        last = end(average=False)
    assert end(average=True) < 0.5 * last


@compatible("beside StochasticWeightAveraging or WeightAveraging", "refused: one average is enough")
def test_a_second_average_of_the_weights_is_refused() -> None:
    class Mine(EMAWeightAveraging):
        """A user's own."""

    for other in (EMAWeightAveraging(), Mine(), StochasticWeightAveraging(swa_lrs=0.1)):
        name = type(other).__name__
        with pytest.raises(MisconfigurationException, match=f"{name} averages the weights, and so does"):
            trainer(RLLearningRate(average=True), other).fit(Module(), rows())
    two = [RLLearningRate(optimizers=index, average=True) for index in (0, 1)]
    with pytest.raises(MisconfigurationException, match="let one of them control all optimizers"):
        trainer(*two).fit(ByHand(), rows())


@compatible("with FSDPStrategy or ModelParallelStrategy", "refused: their checkpoints are written in parts")
@pytest.mark.parametrize("name", ["FSDPStrategy", "ModelParallelStrategy"])
def test_a_strategy_that_writes_checkpoints_in_parts_is_refused(name: str) -> None:
    standing_in = type(name, (pl.strategies.SingleDeviceStrategy,), {})  # by its name: it needs accelerators
    with pytest.raises(MisconfigurationException, match=f"checkpoints that {name} writes in parts"):
        trainer(RLLearningRate(average=True), strategy=standing_in("cpu")).fit(Module(), rows())


def test_weights_that_a_hook_of_the_module_copies_into_its_state_are_told_of_once(tmp_path: Path) -> None:
    class Split(Module):
        def state_dict(self, *args: Any, **settings: Any) -> Any:
            state = super().state_dict(*args, **settings)
            halves = state.pop("network.weight").clone().chunk(2, dim=1)
            return state | {"left": halves[0], "right": halves[1]}

    saving = pl.callbacks.ModelCheckpoint(tmp_path, save_top_k=-1)
    with pytest.warns(UserWarning, match=r"hook of Split .* \(left, right\): .* not averaged") as told:
        trainer(ours(), saving, enable_checkpointing=True).fit(Split(), rows())
    assert sum("not averaged" in str(one.message) for one in told) == 1


@compatible("a fit with it, resumed without", "refused")
def test_a_fit_with_an_average_is_not_resumed_without(tmp_path: Path) -> None:
    saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="end")
    trainer(ours(), saving, max_epochs=1, enable_checkpointing=True).fit(Module(), rows())
    with pytest.raises(ValueError, match="kept an average of the weights, this scheduler keeps none"):
        trainer(RLLearningRate(total_steps=160)).fit(Module(), rows(), ckpt_path=tmp_path / "end.ckpt")
