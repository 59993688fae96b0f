"""Checkpoints of a Hugging Face Trainer under control: to the same bits, and in and out of our hands."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hf_fits import Stop, compatible, controlled, cosine, logged, trainer, weights

from rl_lr.callbacks import RLLearningRateHF
from rl_lr.policy import Policy

SAVING: dict[str, Any] = {"save_strategy": "steps", "save_steps": 10}


@compatible("resume from a checkpoint", "bitwise the same weights, rates and logs")
@pytest.mark.parametrize("restore_callbacks", [False, True])
def test_a_resumed_training_is_bitwise_the_uninterrupted_one(restore_callbacks: bool, tmp_path: Path) -> None:
    whole = trainer(tmp_path, **SAVING)
    _, rates = controlled(whole)
    whole.train()
    resumed = trainer(tmp_path, restore_callback_states_from_checkpoint=restore_callbacks)
    _, later = controlled(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-20"))
    assert torch.equal(weights(whole), weights(resumed))
    assert rates.rates[20:] == later.rates
    assert len(set(later.rates)) == 20
    assert logged(whole, "rl_lr/offset") == logged(resumed, "rl_lr/offset")


@compatible("load_best_model_at_end", "works")
def test_the_best_model_is_loaded_at_the_end(tmp_path: Path) -> None:
    run = trainer(tmp_path, **SAVING, eval_strategy="steps", eval_steps=10, load_best_model_at_end=True)
    controlled(run)
    run.train()
    assert run.evaluate()["eval_loss"] == pytest.approx(min(logged(run, "eval_loss")), rel=1e-6)


@compatible(
    "resume without the callback, then with it again",
    "goes on by the Trainer's own schedule, then anew for what is left: one warning",
)
def test_a_training_goes_out_of_our_hands_and_back(tmp_path: Path) -> None:
    ours = trainer(tmp_path, **SAVING)
    controlled(ours)
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
