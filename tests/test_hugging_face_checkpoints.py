"""Checkpoints of a Hugging Face Trainer under control: to the same bits, and in and out of our hands."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hf_fits import Stop, compatible, controlled, cosine, logged, trainer, weights
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils import parameters_to_vector
from transformers import TrainerCallback

from rl_lr.callbacks import RLLearningRateHF
from rl_lr.policy import Policy


class Worsen(TrainerCallback):
    """Spoils the weights, so that the last model is not the best one."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step > self.after:
            with torch.no_grad():
                for parameter in kwargs["model"].parameters():
                    parameter.zero_()


class Averages(TrainerCallback):
    """Averaged and trained weights after each step."""

    def __init__(self, callback: RLLearningRateHF) -> None:
        self.callback = callback
        self.averaged: dict[int, Tensor] = {}
        self.trained: dict[int, Tensor] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.callback.scheduler is not None
        self.trained[state.global_step] = parameters_to_vector(kwargs["model"].parameters()).detach()
        with self.callback.scheduler.averaged():
            self.averaged[state.global_step] = parameters_to_vector(kwargs["model"].parameters()).detach()


SAVING: dict[str, Any] = {"save_strategy": "steps", "save_steps": 10}


@compatible("resume from a checkpoint", "bitwise the same weights, rates and logs")
@pytest.mark.parametrize("restore_callbacks", [False, True])
@pytest.mark.parametrize("settings", [{}, {"granularity": "tensor"}, {"average": True}])
def test_a_resumed_training_is_bitwise_the_uninterrupted_one(
    settings: dict[str, Any], restore_callbacks: bool, tmp_path: Path
) -> None:
    whole = trainer(tmp_path, **SAVING)
    _, rates = controlled(whole, **settings)
    whole.train()
    resumed = trainer(tmp_path, restore_callback_states_from_checkpoint=restore_callbacks)
    _, later = controlled(resumed, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-20"))
    assert torch.equal(weights(whole), weights(resumed))
    assert rates.rates[20:] == later.rates
    assert len(set(later.rates)) == 20
    assert logged(whole, "rl_lr/offset") == logged(resumed, "rl_lr/offset")


def test_a_state_of_more_parameters_is_refused_with_a_rate_for_each(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    controlled(run, granularity="tensor")
    run.create_optimizer_and_scheduler(40)
    more = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1)) for _ in range(20)], 0.1)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        run.optimizer.load_state_dict(more.state_dict())


@compatible("load_best_model_at_end", "works")
@pytest.mark.parametrize("average", [False, True])
def test_the_best_model_is_loaded_at_the_end(average: bool, tmp_path: Path) -> None:
    run = trainer(tmp_path, **SAVING, eval_strategy="steps", eval_steps=10, load_best_model_at_end=True)
    controlled(run, average=average)
    run.add_callback(Worsen(after=30))
    run.train()
    assert min(logged(run, "eval_loss")) == logged(run, "eval_loss")[2]
    assert run.evaluate()["eval_loss"] == pytest.approx(min(logged(run, "eval_loss")), rel=1e-6)


@compatible(
    "resume without the callback, then with it again",
    "goes on by the Trainer's own schedule, then anew for what is left: one warning",
)
@pytest.mark.parametrize("granularity", ["network", "tensor"])
def test_a_training_goes_out_of_our_hands_and_back(granularity: str, tmp_path: Path) -> None:
    ours = trainer(tmp_path, **SAVING)
    controlled(ours, granularity=granularity)
    ours.add_callback(Stop(20))
    ours.train()

    plain = trainer(tmp_path, **SAVING)
    plain.add_callback(Stop(30))
    plain.train(resume_from_checkpoint=str(tmp_path / "checkpoint-20"))
    linear = [1e-3 * (1 - step / 40) for step in range(21, 30)]
    assert logged(plain, "learning_rate")[21:] == pytest.approx(linear)

    again = trainer(tmp_path)
    _, rates = controlled(again, Policy.keep())
    with pytest.warns(UserWarning, match="made without RLLearningRateHF") as caught:
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-30"))
    assert sum("made without" in str(one.message) for one in caught) == 1
    assert rates.rates == [cosine(step, 10) for step in range(10)]


@compatible(
    "average=True", "evaluated, saved as the model, and left in it; what is trained goes on beside it"
)
def test_averaged_weights_are_evaluated_saved_and_left_in_the_model(tmp_path: Path) -> None:
    run = trainer(tmp_path, **SAVING, eval_strategy="steps", eval_steps=10)
    callback, _ = controlled(run, average=True)
    averages = Averages(callback)
    run.add_callback(averages)
    run.train()
    names = [name for name, _ in run.model.named_parameters()]
    for step in (10, 20, 30, 40):
        saved = load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors")
        assert torch.equal(parameters_to_vector(saved[name] for name in names), averages.averaged[step])
        assert not torch.equal(averages.trained[step], averages.averaged[step])
    assert torch.equal(weights(run), averages.averaged[40])
    assert run.evaluate()["eval_loss"] == logged(run, "eval_loss")[-2]
    assert len(run.predict(run.eval_dataset).predictions) == 160


@compatible("granularity='tensor'", "works; checkpoints hold the optimizer's own groups")
def test_every_tensor_has_a_rate_of_its_own_during_the_training(tmp_path: Path) -> None:
    run = trainer(tmp_path, **SAVING)
    callback, _ = controlled(run, granularity="tensor")
    rates: list[list[float]] = []

    class Groups(TrainerCallback):
        def on_step_end(self, *_: object, **kwargs: Any) -> None:
            assert callback.scheduler is not None
            rates.append(callback.scheduler.get_last_lr())

    run.add_callback(Groups())
    run.train()
    assert len(rates[-2]) == len(set(rates[-2])) == len(list(run.model.parameters()))
    saved = torch.load(tmp_path / "checkpoint-20" / "optimizer.pt", weights_only=True)
    assert [len(group["params"]) for group in saved["param_groups"]] == [2, 2]
    assert [len(group["params"]) for group in run.optimizer.param_groups] == [2, 2]


def test_a_checkpoint_with_averages_goes_on_with_averages_only(tmp_path: Path) -> None:
    controlled(first := trainer(tmp_path, **SAVING), average=True)
    first.train()
    controlled(second := trainer(tmp_path))
    with pytest.raises(ValueError, match=r"kept an average of the weights.*average=True"):
        second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-20"))


def test_a_checkpoint_of_the_model_alone_starts_anew_for_what_is_left(tmp_path: Path) -> None:
    first = trainer(tmp_path, **SAVING, save_only_model=True)
    controlled(first)
    first.train()
    second = trainer(tmp_path)
    _, rates = controlled(second, Policy.keep())
    with pytest.warns(UserWarning, match="made without RLLearningRateHF"):
        second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-20"))
    assert rates.rates == [cosine(step, 20) for step in range(20)]


@compatible("resume for more steps", "goes on at the rate that it had, towards the new end: one warning")
def test_a_training_that_is_resumed_for_longer_goes_on_towards_the_new_end(tmp_path: Path) -> None:
    controlled(first := trainer(tmp_path, **SAVING))
    first.train()
    second = trainer(tmp_path, max_steps=80)
    second.add_callback(RLLearningRateHF(second))
    with pytest.warns(UserWarning, match="was planned for 40 steps"):
        second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-20"))
    assert logged(second, "rl_lr/lr/group0")[-1] < 0.05 * logged(second, "rl_lr/lr/group0")[40]
