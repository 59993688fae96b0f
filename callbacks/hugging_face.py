"""RLLearningRateHF: the learning rate of a Hugging Face Trainer under the control of a learned policy.

A Trainer tells its callbacks neither the loss of a step nor of itself, and calls them "read only": who wants to
change the loop overrides the Trainer's methods. So the callback is given the Trainer, and overrides three of those
methods on it: ``training_step``, whose values over the accumulated batches add up to the loss of the step, whatever
the model or a subclass computes it by; ``create_scheduler``, so that the rate has no second master and our state lies
where a schedule's lies in a checkpoint; and ``log``. With averaged weights also ``evaluation_loop`` and ``save_model``,
whose weights they are. Needs the optional extra ``hf``.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from rl_lr.callbacks.checks import OnConflict, check_on_conflict
from rl_lr.callbacks.fallbacks import Fallbacks, OnError
from rl_lr.callbacks.hugging_face_schedule import Schedule
from rl_lr.callbacks.loggers import decision, rates
from rl_lr.policy import Policy
from rl_lr.scheduler import RLScheduler
from rl_lr.schedules import BaseSchedule, check_schedule
from rl_lr.sketches import Granularity, check_granularity
from rl_lr.snapshots import OnDivergence, check_on_divergence
from rl_lr.timetable import whole_steps

try:
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_utils import EvalLoopOutput
except ImportError as error:
    raise ImportError("RLLearningRateHF needs transformers: pip install 'rl-lr[hf]'.") from error


class RLLearningRateHF(TrainerCallback):
    """Sets the learning rate of a Hugging Face ``Trainer`` by a learned policy.

    ::

        trainer = Trainer(model=model, args=args, train_dataset=data)
        trainer.add_callback(RLLearningRateHF(trainer))
        trainer.train()

    The rate of the arguments, or of the optimizer that the Trainer was given, is the base rate: it may be off by
    a factor of about 100 either way. Rate and base rate per group, offset, action and guard events stand under
    ``rl_lr/`` in the Trainer's logs, where the loss is; ``learning_rate`` there is the rate that was used. Checkpoints
    hold the state.

    ``lr_scheduler_type="linear"`` is what a Trainer has if nobody chose, so it is replaced without a word, as
    ``"constant"`` is; any other, a warm-up, a scheduler or a ``create_scheduler`` of your own is a conflict.

    Args:
        trainer: that it will be added to.
        policy: a name that ships with the package, a folder, or a :class:`rl_lr.Policy`.
        total_steps: horizon in steps of the optimizer; None takes the Trainer's own, ``max_steps`` or its epochs.
        base_schedule: the shape that the rate follows where the policy does nothing.
        on_conflict: ``"raise"`` refuses a Trainer with a schedule that was chosen; ``"override"`` ignores it.
        on_error: ``"fallback"`` hands an ailing run back to its base schedule with one warning,
            ``"raise"`` stops it.
        granularity: ``"network"``, one multiplier for all, or ``"tensor"``, one for each parameter, by
            its own signals, near the mean of all. During the training the optimizer then has a parameter group for each;
            checkpoints hold the groups that it had. Logged are then means.
        on_divergence: ``"restore"`` takes a run that has exploded back to where it was healthy, with a
            tenth of the rate, for which two copies of the parameters and the optimizer's averages are kept;
            ``"cut"`` only lowers the rate.
        average: an average of the weights, which forgets all but the last few per cent of the run
            (:mod:`rl_lr.averaging`), is evaluated, is the model of checkpoints, and stays in it after the training
            unless ``load_best_model_at_end`` puts another one there.

    Raises:
        PolicyFileError: at once, if the policy cannot be loaded.
        ValueError: at once, for a horizon below 1, an unknown choice or a conflict; when the training starts, for an
            optimizer that cannot be controlled or a checkpoint of other settings.
    """

    def __init__(
        self,
        trainer: Trainer,
        policy: str | Policy = "default",
        *,
        total_steps: int | None = None,
        base_schedule: BaseSchedule = "cosine",
        on_conflict: OnConflict = "raise",
        on_error: OnError = "fallback",
        granularity: Granularity = "network",
        on_divergence: OnDivergence = "restore",
        average: bool = False,
    ) -> None:
        self.total_steps = whole_steps(total_steps)
        check_schedule(base_schedule)
        check_granularity(granularity)
        check_on_divergence(on_divergence)
        check_on_conflict(on_conflict)
        _check_trainer(trainer, on_conflict, average)
        self.policy = policy if isinstance(policy, Policy) else Policy.load(policy)
        self.base_schedule, self.on_error = base_schedule, on_error
        self.granularity, self.on_divergence, self.average = granularity, on_divergence, average
        self._trainer = trainer
        self._fallbacks = Fallbacks(on_error, type(self).__name__)
        self._schedule: Schedule | None = None  # of the training under way
        self._training_step, self._log = trainer.training_step, trainer.log
        trainer.create_scheduler = self._create_scheduler  # type: ignore[method-assign, assignment]
        trainer.training_step = self._observed_step  # type: ignore[method-assign]
        trainer.log = self._log_with_ours  # type: ignore[method-assign]
        if average:
            self._evaluation_loop, self._save_model = trainer.evaluation_loop, trainer.save_model
            trainer.evaluation_loop = self._averaged_loop  # type: ignore[method-assign]
            trainer.save_model = self._save_averaged  # type: ignore[method-assign]

    @property
    def scheduler(self) -> RLScheduler | None:
        """Of the training under way; None before and after."""
        return self._schedule.scheduler if self._schedule else None

    @override
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Go on from the state of a checkpoint; if it holds none of ours, start anew for what is left."""
        assert self._schedule is not None
        if self._schedule.saved is not None:
            self._schedule.go_on(self._schedule.saved)
        elif state.global_step > 0:
            rank_zero_warn(
                "This training resumes a checkpoint made without RLLearningRateHF: base rates are those of the "
                "arguments, and the schedule starts anew for the steps that are left."
            )
            self._schedule.scheduler.detach()
            self._schedule.scheduler = self._scheduler(max(1, state.max_steps - state.global_step))

    @override
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The loss of a step is added up anew, also after one that a gradient scaler skipped."""
        if self._schedule is not None:
            self._schedule.loss = None

    @override
    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave averaged weights in the model, and let go of the optimizer: it gets its base rate back."""
        best = args.load_best_model_at_end and state.best_model_checkpoint is not None
        if self.average and self.scheduler is not None and not best:  # the best one was put in just now
            self.scheduler.keep_average()
        self._let_go()

    def _create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Schedule:
        """In the place of the Trainer's: before a checkpoint is loaded, so that base rates are the arguments'."""
        if self not in self._trainer.callback_handler.callbacks:
            raise ValueError(
                "RLLearningRateHF is not among the callbacks of the Trainer that it was made for: add it by "
                "trainer.add_callback(callback)."
            )
        self._let_go()  # of a training that was broken off
        self._fallbacks = Fallbacks(self.on_error, type(self).__name__)
        scheduler = self._scheduler(num_training_steps)
        assert self._trainer.model is not None
        self._schedule = Schedule(self._trainer.model, scheduler, self._fallbacks)
        self._trainer.lr_scheduler = self._schedule  # type: ignore[assignment]
        return self._schedule

    def _scheduler(self, total_steps: int) -> RLScheduler:
        assert self._trainer.optimizer is not None
        assert self._trainer.model is not None
        return RLScheduler(
            self._trainer.optimizer,
            self.total_steps or total_steps,
            self.policy,
            self.base_schedule,
            granularity=self.granularity,
            on_divergence=self.on_divergence,
            buffers=self._trainer.model.buffers(),
            agree=_mean_over_ranks(self._trainer),
            average=self.average,
        )

    def _observed_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """The Trainer's ``training_step``, whose loss is divided by the number of accumulated batches or tokens."""
        loss = self._training_step(model, inputs, num_items_in_batch)
        if self._schedule is not None:
            self._schedule.add(loss)
        return loss

    def _log_with_ours(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The Trainer's ``log``; not with all signals, which would flood its progress bar."""
        if self._schedule is not None and "loss" in logs:
            scheduler = self._schedule.scheduler
            ours = rates(scheduler, "rl_lr") | decision(scheduler, "rl_lr") | self._fallbacks.metrics()
            logs = logs | {name: one for name, one in ours.items() if not name.startswith("rl_lr/signal/")}
        self._log(logs, start_time)

    def _averaged_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The Trainer's ``evaluation_loop`` on averaged weights."""
        with self._averaged():
            return self._evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )

    def _save_averaged(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The Trainer's ``save_model`` with averaged weights."""
        with self._averaged():
            self._save_model(output_dir, _internal_call)

    def _averaged(self) -> AbstractContextManager[None]:
        """Averaged weights in the model, while it is trained; later they are there anyway."""
        return nullcontext() if self.scheduler is None else self.scheduler.averaged()

    def _let_go(self) -> None:
        if self._schedule is not None:
            self._schedule.detach()
            self._schedule = self._trainer.lr_scheduler = None


def _check_trainer(trainer: Trainer, on_conflict: str, average: bool) -> None:
    """Refuse a schedule that was chosen, optimizers that step where nobody sees it, and averages of what is spread."""
    settings = trainer.args.to_dict()  # enumerations as their values
    if any(isinstance(one, RLLearningRateHF) for one in trainer.callback_handler.callbacks):
        raise ValueError(
            "This Trainer has an RLLearningRateHF already, which serves every training by it: build a new Trainer for "
            "another one."
        )
    if "lomo" in settings["optim"]:
        raise ValueError(
            f"RLLearningRateHF cannot control optim={settings['optim']!r}, which makes its steps during the backward "
            f"pass: use an optimizer such as 'adamw_torch'."
        )
    if average and trainer.is_fsdp_enabled:
        raise ValueError(
            "average=True would save what the first process averaged for all of them, as FSDP spreads the weights over "
            "processes and the state of a schedule is written by one: train without FSDP, or leave average out."
        )
    chosen = []
    if trainer.lr_scheduler is not None:
        chosen.append(f"a {type(trainer.lr_scheduler).__name__}")
    if type(trainer).create_scheduler is not Trainer.create_scheduler:
        chosen.append(f"{type(trainer).__name__}.create_scheduler")
    if settings["lr_scheduler_type"] not in ("linear", "constant"):
        chosen.append(f"lr_scheduler_type={settings['lr_scheduler_type']!r}")
    if settings["warmup_steps"]:
        chosen.append(f"warmup_steps={settings['warmup_steps']}")
    if chosen and on_conflict == "raise":
        raise ValueError(
            f"The Trainer is told to schedule the rate by {', '.join(chosen)}, and RLLearningRateHF sets it as well, "
            f"with a warm-up of its own: leave that out, or pass on_conflict='override' to ignore it."
        )


def _mean_over_ranks(trainer: Trainer) -> Callable[[Tensor], Tensor] | None:
    """What makes all ranks decide on the same numbers; None where there is one."""
    accelerator = trainer.accelerator
    if accelerator.num_processes == 1:
        return None
    return lambda value: torch.as_tensor(accelerator.reduce(value, reduction="mean"))
