"""Small trainings under transformers' Trainer, for the tests of RLLearningRateHF."""

from pathlib import Path
from typing import Any

import pytest
import torch
from digits import data, network
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from rl_lr.callbacks import RLLearningRateHF
from rl_lr.config import ControlConfig
from rl_lr.policy import Policy
from rl_lr.schedules import base_schedule


def compatible(what: str, verdict: str = "works") -> pytest.MarkDecorator:
    """A row of the table."""
    return pytest.mark.compatibility("Hugging Face Trainer", what, verdict)


class Digits(nn.Module):
    """In the manner of transformers: inputs by name, and the loss among the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, pictures: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.network(pictures)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Rates(TrainerCallback):
    """The rate of every step, from the optimizer itself."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.rates.append(float(kwargs["optimizer"].param_groups[0]["lr"]))


def digits(count: int = 1600) -> "Dataset[Any]":
    pictures, labels = data()[:count]
    return [{"pictures": one, "labels": label} for one, label in zip(pictures, labels, strict=True)]  # type: ignore[return-value]


def trainer(
    folder: Path,
    kind: type[Trainer] = Trainer,
    given: Any = (None, None),
    model: nn.Module | None = None,
    rows: Any = None,
    **settings: Any,
) -> Any:
    """A Trainer of 40 steps that says nothing; on digits, if no model and rows are given."""
    defaults: dict[str, Any] = {
        "max_steps": 40,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 16,
        "save_strategy": "no",
        "report_to": [],
        "logging_steps": 1,
        "disable_tqdm": True,
        "use_cpu": True,
    }
    args = TrainingArguments(str(folder), **(defaults | settings))
    return kind(
        model=model or Digits(),
        args=args,
        train_dataset=rows or digits(),
        eval_dataset=digits(160),
        optimizers=given,
    )


def controlled(run: Any, policy: str | Policy = "default", **settings: Any) -> tuple[RLLearningRateHF, Rates]:
    """The Trainer's new callback, and one that notes the rates."""
    callback, rates = RLLearningRateHF(run, policy, **settings), Rates()
    run.add_callback(callback)
    run.add_callback(rates)
    return callback, rates


def logged(run: Any, name: str) -> list[float]:
    return [row[name] for row in run.state.log_history if name in row]


def cosine(step: int, horizon: int = 40) -> float:
    return 1e-3 * base_schedule(step, horizon, "cosine", ControlConfig())


def weights(run: Any) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])


class Stop(TrainerCallback):
    """Ends the training after some steps, as if it had been interrupted."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step >= self.after


class Seen(TrainerCallback):
    """Steps and losses that the scheduler was told of."""

    def __init__(self, callback: RLLearningRateHF) -> None:
        self.callback = callback
        self.losses: list[float] = []
        self.steps: list[int] = []

    def on_step_end(self, *_: object, **kwargs: Any) -> None:
        assert self.callback.scheduler is not None
        state = self.callback.scheduler.state_dict()["controller"]
        pending = state["signals"]["window"]["pending"]
        self.steps.append(state["step"])
        if len(pending):  # a decision takes the losses since the last one
            self.losses.append(float(pending[-1]))
