"""RLLearningRateHF on real Trainers of transformers."""

import collections
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from digits import data
from hf_fits import Digits, Seen, Stop, compatible, controlled, cosine, logged, trainer
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, set_seed

import rl_lr.callbacks
from rl_lr.callbacks import RLLearningRateHF
from rl_lr.policy import Policy, PolicyFileError
from rl_lr.signals import NUM_SIGNALS

TEXT = inspect.getsource(collections)[:40_000]


@compatible("transformers.Trainer, from a rate 100 times too low or too high")
@pytest.mark.parametrize("lr", [1e-5, 0.1])
def test_a_small_language_model_trains_from_a_rate_a_hundred_times_off(lr: float, tmp_path: Path) -> None:
    alphabet = sorted(set(TEXT))
    codes = torch.tensor([alphabet.index(letter) for letter in TEXT])
    rows: Any = [{"input_ids": row, "labels": row} for row in codes.view(-1, 32)]
    shape: dict[str, Any] = {"n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2}
    config = GPT2Config(vocab_size=len(alphabet), bos_token_id=0, eos_token_id=0, **shape)

    def final_loss(ours: bool) -> float:
        set_seed(0)
        model = GPT2LMHeadModel(config)
        run = trainer(tmp_path, model=model, rows=rows, learning_rate=lr, max_steps=300, logging_steps=50)
        if ours:
            run.add_callback(RLLearningRateHF(run))
        run.train()
        return logged(run, "loss")[-1]

    ours = final_loss(ours=True)
    assert ours < 2.3
    assert ours < final_loss(ours=False) - 0.5


@compatible("the default schedule, lr_scheduler_type='linear'", "replaced")
def test_a_policy_that_keeps_follows_our_schedule_and_not_the_trainers(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    _, rates = controlled(run, Policy.keep())
    run.train()
    assert rates.rates == [cosine(step) for step in range(40)]
    assert logged(run, "learning_rate") == rates.rates


def test_the_horizon_may_be_another_than_the_trainers(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    _, rates = controlled(run, Policy.keep(), total_steps=80)
    run.train()
    assert rates.rates == [cosine(step, 80) for step in range(40)]


def test_the_horizon_is_that_of_the_epochs(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_steps=-1, num_train_epochs=2, per_device_train_batch_size=100)
    _, rates = controlled(run, Policy.keep())
    run.train()
    assert rates.rates == [cosine(step, 32) for step in range(32)]


class OwnSchedule(Trainer):
    def create_scheduler(self, *_: Any, **settings: Any) -> Any:
        raise AssertionError("is not called")


def scheduled(chosen: str) -> dict[str, Any]:
    """Settings under which a Trainer schedules the rate by what somebody chose."""
    if chosen == "warmup_steps":
        return {"warmup_steps": 10}
    if chosen == "StepLR":
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1e-3)
        return {"given": (optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1))}
    if chosen == "create_scheduler":
        return {"kind": OwnSchedule}
    return {"lr_scheduler_type": chosen}


@compatible(
    "another schedule, a warm-up, or a scheduler of one's own", "refused; ignored if on_conflict='override'"
)
@pytest.mark.parametrize("chosen", ["cosine", "warmup_steps", "StepLR", "create_scheduler"])
def test_a_schedule_that_was_chosen_is_refused_or_overridden(chosen: str, tmp_path: Path) -> None:
    run = trainer(tmp_path, **scheduled(chosen))
    with pytest.raises(ValueError, match=f"told to schedule the rate by .*{chosen}.*: leave that out"):
        RLLearningRateHF(run)
    _, rates = controlled(run, Policy.keep(), on_conflict="override")
    run.train()
    assert rates.rates == [cosine(step) for step in range(40)]


class OwnLoss(Trainer):
    """Computes a loss of its own, as many do."""

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **kwargs: Any) -> Tensor:
        logits = model(**inputs)["logits"]
        return 7.0 * nn.functional.cross_entropy(logits, inputs["labels"])


class PerItem(Digits):
    """Divides by the number of items in all accumulated batches, as language models of transformers do."""

    def forward(self, pictures: Tensor, labels: Tensor, **settings: Any) -> dict[str, Tensor]:
        logits = self.network(pictures)
        total = nn.functional.cross_entropy(logits, labels, reduction="sum")
        return {"loss": total / settings["num_items_in_batch"], "logits": logits}


@compatible(
    "gradient accumulation, losses of one's own", "works; the loss is that of the accumulated batches"
)
@pytest.mark.parametrize(
    ("kind", "model", "factor"), [(Trainer, Digits, 1.0), (OwnLoss, Digits, 7.0), (Trainer, PerItem, 1.0)]
)
def test_the_loss_of_a_step_is_the_mean_over_its_batches_whatever_computes_it(
    kind: type[Trainer], model: type[Digits], factor: float, tmp_path: Path
) -> None:
    run = trainer(tmp_path, kind, model=model(), gradient_accumulation_steps=100, max_steps=500)
    callback, _ = controlled(run)
    seen = Seen(callback)
    run.add_callback(seen)
    run.add_callback(Stop(1))
    with torch.no_grad():
        expected = factor * float(Digits()(*data()[:1600])["loss"])
    run.train()
    assert seen.steps == [1]
    assert seen.losses == [pytest.approx(expected, rel=1e-5)]  # each of the 1600 pictures once


@compatible("a gradient scaler", "works; steps that it skips do not count")
def test_steps_that_a_gradient_scaler_skips_do_not_count(tmp_path: Path) -> None:
    class Overflowing(Trainer):
        def compute_loss(self, *arguments: Any, **settings: Any) -> Tensor:
            factor = 1e38 if self.state.global_step in (20, 21) else 1.0
            loss: Tensor = super().compute_loss(*arguments, **settings)  # type: ignore[assignment]
            return loss * factor

    run = trainer(tmp_path, Overflowing, max_grad_norm=0.0, max_steps=500)
    # On the CPU a Trainer makes none for itself.
    run.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    callback, _ = controlled(run, Policy.keep())
    seen = Seen(callback)
    run.add_callback(seen)
    run.add_callback(Stop(40))
    run.train()
    assert [seen.steps[index] for index in (19, 20, 21, 22, 39)] == [20, 20, 20, 21, 38]
    assert len(seen.losses) > 20
    assert max(seen.losses) < 3.0  # none has that of a skipped step in it


@compatible("logs", "rates, offset, action and guard events where the loss is")
@pytest.mark.parametrize(("strategy", "rows"), [("steps", 40), ("epoch", 2)])
def test_rates_and_decisions_stand_in_the_rows_of_the_loss(strategy: str, rows: int, tmp_path: Path) -> None:
    length: dict[str, Any] = {"max_steps": -1, "num_train_epochs": 2, "per_device_train_batch_size": 80}
    run = trainer(tmp_path, logging_strategy=strategy, **length)
    controlled(run)
    run.train()
    with_loss = [row for row in run.state.log_history if "loss" in row]
    groups = {"lr/group0", "lr/group1", "base_lr/group0", "base_lr/group1"}  # with weight decay, and without
    ours = groups | {"offset", "action", "guard_events", "rewinds"}
    assert len(with_loss) == rows
    for row in with_loss:
        assert {name for name in row if name.startswith("rl_lr/")} == {f"rl_lr/{name}" for name in ours}
    assert len(set(logged(run, "rl_lr/offset"))) > rows / 2


def test_a_failing_policy_hands_over_with_one_warning_which_is_logged(tmp_path: Path) -> None:
    layers = ((torch.zeros(4, NUM_SIGNALS), torch.zeros(4)), (torch.zeros(1, 3), torch.zeros(1)))
    wrong = Policy(layers, name="of shapes that do not fit")

    class Break(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 20 and callback.scheduler is not None:
                callback.scheduler.policy = wrong

    run = trainer(tmp_path)
    callback, rates = controlled(run, Policy.keep())
    run.add_callback(Break())
    with pytest.warns(UserWarning, match="RLLearningRateHF hands over to the base schedule"):
        run.train()
    assert rates.rates[-1] == cosine(39)
    assert logged(run, "rl_lr/fallbacks/RuntimeError")[-1] == 1.0


def test_after_the_training_and_before_another_the_optimizer_has_its_base_rate(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    callback, rates = controlled(run, Policy.keep())
    run.train()
    assert callback.scheduler is None
    assert run.optimizer.param_groups[0]["lr"] == 1e-3
    run.train()
    assert rates.rates == 2 * [cosine(step) for step in range(40)]
    run.remove_callback(RLLearningRateHF)
    run.add_callback(RLLearningRateHF(run, Policy.keep(), base_schedule="constant"))
    run.train()
    assert rates.rates[-1] == 1e-3


def test_a_model_may_be_made_anew_for_every_training(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.model_init = Digits
    _, rates = controlled(run, Policy.keep())
    run.train()
    run.train()
    assert rates.rates == 2 * [cosine(step) for step in range(40)]


def test_a_training_that_was_broken_off_leaves_nothing_behind(tmp_path: Path) -> None:
    class Interrupt(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 7:
                run.remove_callback(Interrupt)
                raise KeyboardInterrupt

    run = trainer(tmp_path)
    _, rates = controlled(run, Policy.keep())
    run.add_callback(Interrupt())
    with pytest.raises(KeyboardInterrupt):
        run.train()
    run.train()
    assert rates.rates == [cosine(step) for step in (*range(7), *range(40))]


def test_a_callback_that_was_not_added_is_refused_at_the_start(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    RLLearningRateHF(run)
    with pytest.raises(ValueError, match=r"not among the callbacks .* trainer\.add_callback"):
        run.train()


def test_a_second_callback_for_one_trainer_is_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.add_callback(RLLearningRateHF(run))
    with pytest.raises(ValueError, match="has an RLLearningRateHF already, which serves every training"):
        RLLearningRateHF(run)


def test_an_optimizer_that_steps_in_the_backward_pass_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot control optim='lomo'.*backward"):
        RLLearningRateHF(trainer(tmp_path, optim="lomo"))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"policy": "no such"}, "no policy 'no such'"),
        ({"total_steps": 0}, "total_steps is 0"),
        ({"granularity": "layer"}, "granularity"),
        ({"base_schedule": "sawtooth"}, "Unknown base schedule 'sawtooth'"),
        ({"on_conflict": "maybe"}, "on_conflict is 'maybe'"),
        ({"on_error": "maybe"}, "on_error is 'maybe'"),
        ({"on_divergence": "cry"}, "on_divergence is 'cry'"),
    ],
)
def test_bad_arguments_are_refused_at_construction_and_leave_the_trainer_alone(
    settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    run = trainer(tmp_path)
    with pytest.raises((ValueError, PolicyFileError), match=reason):
        RLLearningRateHF(run, **settings)
    run.train()
    assert logged(run, "learning_rate")[0] == 1e-3


def test_without_transformers_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("rl_lr.callbacks.hugging_face")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"needs transformers: pip install 'rl-lr\[hf\]'"):
        _ = rl_lr.callbacks.RLLearningRateHF
