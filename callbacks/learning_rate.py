"""RLLearningRate: a Trainer's learning rate under the control of a learned policy."""

import math
from typing import Any, Literal

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from rl_lr.policy import Policy
from rl_lr.scheduler import RLScheduler
from rl_lr.schedules import BaseSchedule, check_schedule
from rl_lr.signals import SIGNALS
from rl_lr.sketches import Granularity, check_granularity
from rl_lr.snapshots import OnDivergence, check_on_divergence


class RLLearningRate(Callback):
    """Sets the learning rate of the Trainer's optimizer by a learned policy.

    ::

        Trainer(callbacks=[RLLearningRate()])

    The rate that ``configure_optimizers`` gives is the base rate: it may be off by a factor of
    about 100 either way. Each parameter group keeps its own; all are multiplied alike. Time is
    counted in optimizer steps. Everything is logged under ``rl_lr/``: rate and base rate per
    group, offset, action, every signal, guard events.

    Args:
        policy: a name that ships with the package, a folder, or a :class:`rl_lr.Policy`.
        total_steps: horizon in optimizer steps; None takes the Trainer's own estimate.
        base_schedule: the shape that the rate follows where the policy does nothing.
        on_conflict: ``"raise"`` refuses a module that brings its own learning-rate scheduler;
            ``"override"`` lets it run and ignores what it sets.
        on_error: ``"fallback"`` hands an ailing run back to its base schedule with one warning,
            ``"raise"`` stops it.
        granularity: ``"network"``, one multiplier for all, or ``"tensor"``, one for each parameter, by
            its own signals. During the fit the optimizer then has a parameter group for each;
            checkpoints hold the groups of ``configure_optimizers``. Logged are then means.
        on_divergence: ``"restore"`` takes a run that has exploded back to where it was healthy, with a
            tenth of the rate, for which two copies of the module and the optimizer's averages are kept;
            ``"cut"`` only lowers the rate.

    Attributes:
        scheduler: the :class:`rl_lr.RLScheduler` of the fit under way, else None.

    Raises:
        PolicyFileError: at once, if the policy cannot be loaded.
        ValueError: at once, for a horizon below 1 or an unknown choice.
    """

    def __init__(
        self,
        policy: str | Policy = "default",
        *,
        total_steps: int | None = None,
        base_schedule: BaseSchedule = "cosine",
        on_conflict: Literal["raise", "override"] = "raise",
        on_error: Literal["fallback", "raise"] = "fallback",
        granularity: Granularity = "network",
        on_divergence: OnDivergence = "restore",
    ) -> None:
        if total_steps is not None and total_steps < 1:
            raise ValueError(
                f"total_steps is {total_steps}: give the optimizer steps of the fit, at least 1."
            )
        if on_conflict not in ("raise", "override"):
            raise ValueError(f"on_conflict is {on_conflict!r}: choose 'raise' or 'override'.")
        if on_error not in ("fallback", "raise"):
            raise ValueError(f"on_error is {on_error!r}: choose 'fallback' or 'raise'.")
        check_schedule(base_schedule)
        check_granularity(granularity)
        check_on_divergence(on_divergence)
        self.policy = policy if isinstance(policy, Policy) else Policy.load(policy)
        self.total_steps, self.base_schedule = total_steps, base_schedule
        self.on_conflict, self.on_error = on_conflict, on_error
        self.granularity, self.on_divergence = granularity, on_divergence
        self.scheduler: RLScheduler | None = None
        self._restored: dict[str, Any] | None = None
        self._final: dict[str, Any] = {}  # state at the end of the latest fit
        self._losses: list[Tensor] = []  # of the accumulation window under way

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bind to the optimizer: after restoring, so that base rates come from our own state."""
        optimizer = self._single_optimizer(trainer)
        self._check_conflict(trainer)
        self.scheduler = RLScheduler(
            optimizer,
            self._horizon(trainer),
            self.policy,
            self.base_schedule,
            granularity=self.granularity,
            on_divergence=self.on_divergence,
            buffers=pl_module.buffers(),
        )
        if self._restored is not None:
            self.scheduler.load_state_dict(self._restored)
            self._restored = None
        elif trainer.global_step > 0:
            rank_zero_warn(
                "This fit resumes a checkpoint made without RLLearningRate: the base rates are the "
                "optimizer's present ones, and the schedule starts anew."
            )
        self._losses = []
        self._log(trainer, decision=self.scheduler.controller.step == 0)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report the loss of the optimizer step, if this batch completed one."""
        scheduler = self.scheduler
        if scheduler is None:
            return
        self._losses.append(_loss_of(outputs))
        if not scheduler.stepped:
            return
        loss = self._losses[0] if len(self._losses) == 1 else torch.stack(self._losses).mean()
        if trainer.accumulate_grad_batches > 1:  # by which Lightning divided it
            loss = loss * trainer.accumulate_grad_batches
        self._losses = []
        if trainer.world_size > 1:  # every rank must decide on the same numbers
            loss = trainer.strategy.reduce(loss, reduce_op="mean")
        try:
            scheduler.step(loss)
        except Exception as error:
            if self.on_error == "raise":
                raise
            scheduler.release()
            rank_zero_warn(f"RLLearningRate hands over to the base schedule: {type(error).__name__}: {error}")
        self._log(trainer, decision=scheduler.controller.just_decided)

    @override
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Give the optimizer's state the parameter groups that it can be loaded into before we come."""
        if self.scheduler is not None and "optimizer_states" in checkpoint:
            checkpoint["optimizer_states"] = [
                self.scheduler.joined(state) for state in checkpoint["optimizer_states"]
            ]

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the optimizer, however the fit ended."""
        if self.scheduler is not None:
            self._final = self.scheduler.state_dict()
            self.scheduler.detach()
            self.scheduler = None

    @override
    def state_dict(self) -> dict[str, Any]:
        """The scheduler's state as plain types and tensors; after a fit, that of its end."""
        return self._final if self.scheduler is None else self.scheduler.state_dict()

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep it until the optimizer exists."""
        self._restored = state_dict or None

    def _single_optimizer(self, trainer: Trainer) -> Optimizer:
        if len(trainer.optimizers) != 1:
            raise MisconfigurationException(
                f"RLLearningRate controls one optimizer, configure_optimizers returned {len(trainer.optimizers)}: "
                f"use rl_lr.RLScheduler on each of them inside the module."
            )
        return trainer.optimizers[0]

    def _check_conflict(self, trainer: Trainer) -> None:
        if trainer.lr_scheduler_configs and self.on_conflict == "raise":
            names = ", ".join(type(config.scheduler).__name__ for config in trainer.lr_scheduler_configs)
            raise MisconfigurationException(
                f"configure_optimizers returns a learning-rate scheduler ({names}) and RLLearningRate sets the "
                f"rate as well: return the optimizer alone, or pass on_conflict='override' to ignore {names}."
            )

    def _horizon(self, trainer: Trainer) -> int:
        if self.total_steps is not None:
            return self.total_steps
        estimate = trainer.estimated_stepping_batches
        if not math.isfinite(estimate) or estimate < 1:
            raise MisconfigurationException(
                "The Trainer cannot tell how many optimizer steps this fit will make: set max_steps, or "
                "max_epochs with data of known length, or pass RLLearningRate(total_steps=...)."
            )
        return int(estimate)

    def _log(self, trainer: Trainer, decision: bool) -> None:
        """Rates at the Trainer's logging interval; offset, action and signals at decisions."""
        scheduler = self.scheduler
        assert scheduler is not None
        interval = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
        if not decision and scheduler.controller.step % interval:
            return
        metrics: dict[str, float] = {}
        for index, (rate, base) in enumerate(zip(scheduler.get_last_lr(), scheduler.base_lrs, strict=True)):
            metrics[f"rl_lr/lr/group{index}"] = rate
            metrics[f"rl_lr/base_lr/group{index}"] = base
        if decision and scheduler.latest_signals is not None:
            controller = scheduler.controller
            metrics["rl_lr/offset"] = float(controller.offset.mean())
            metrics["rl_lr/action"] = float(controller.last_action.mean())
            metrics["rl_lr/guard_events"] = float(controller.guard_events[0])  # all feel the same loss
            metrics["rl_lr/rewinds"] = float(controller.rewinds[0])
            values = scheduler.latest_signals.mean(dim=0).tolist()
            metrics |= {f"rl_lr/signal/{name}": value for name, value in zip(SIGNALS, values, strict=True)}
        trainer.callback_metrics["rl_lr/lr"] = torch.tensor(scheduler.get_last_lr()[0])
        for logger in trainer.loggers:
            _log_at_once(logger, metrics, trainer.global_step)


def _log_at_once(logger: Logger, metrics: dict[str, float], step: int) -> None:
    """``logger.log_metrics``, for TensorBoard as one event: one per value took most of our time."""
    if isinstance(logger, TensorBoardLogger) and not logger._prefix:
        # Loaded by such a logger anyway; ranks that do not write have another experiment.
        from tensorboard.compat.proto.summary_pb2 import Summary
        from torch.utils.tensorboard import SummaryWriter

        if isinstance(logger.experiment, SummaryWriter) and logger.experiment.file_writer:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
            logger.experiment.file_writer.add_summary(Summary(value=values), step)
            return
    logger.log_metrics(metrics, step=step)


def _loss_of(outputs: Any) -> Tensor:
    loss = (
        outputs if isinstance(outputs, Tensor) else outputs.get("loss") if isinstance(outputs, dict) else None
    )
    if not isinstance(loss, Tensor):
        raise MisconfigurationException(
            "RLLearningRate needs the training loss: return it from training_step, as a tensor or under 'loss'."
        )
    return loss.detach()
