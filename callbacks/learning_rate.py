"""RLLearningRate: a Trainer's learning rates under the control of a learned policy."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer
from typing_extensions import override

from rl_lr.callbacks.averages import Averages, go_on
from rl_lr.callbacks.checks import (
    OnConflict,
    callbacks_of,
    check_average,
    check_on_conflict,
    check_trainer,
)
from rl_lr.callbacks.choosing import Chosen, index_of, names
from rl_lr.callbacks.fallbacks import Fallbacks, OnError
from rl_lr.callbacks.horizon import Horizon, warn_of_no_horizon
from rl_lr.callbacks.loggers import log
from rl_lr.callbacks.losses import Losses
from rl_lr.callbacks.ranks import mean_over_ranks
from rl_lr.policy import Policy
from rl_lr.scheduler import RLScheduler
from rl_lr.schedules import BaseSchedule, check_schedule
from rl_lr.sketches import Granularity, check_granularity
from rl_lr.snapshots import OnDivergence, check_on_divergence
from rl_lr.timetable import whole_steps


class RLLearningRate(Callback):
    """Sets the learning rates of the Trainer's optimizers by a learned policy.

    ::

        Trainer(callbacks=[RLLearningRate()])

    The rate that ``configure_optimizers`` gives is the base rate: it may be off by a factor of
    about 100 either way. Each parameter group keeps its own; all are multiplied alike. Several
    optimizers are controlled each by itself. Time is counted in steps of the optimizer; in manual optimization
    in batches in which it made one. Everything is logged under ``rl_lr/``, with several optimizers under
    ``rl_lr/<name>/``: rate and base rate per group, offset, action, every signal, guard events.

    Args:
        policy: a name that ships with the package, a folder, or a :class:`rl_lr.Policy`.
        total_steps: horizon in steps of each optimizer; None takes what the Trainer's settings tell; if they tell
            nothing, the rate is never annealed (:mod:`rl_lr.timetable`), with a warning unless ``average`` makes up for it.
        base_schedule: the shape that the rate follows where the policy does nothing.
        optimizers: those that are controlled, by number or by name (the class, the second of a kind with
            ``-1``, as ``LearningRateMonitor`` has it); None for all.
        monitor: for manual optimization: name of the metric, logged in every step, that is the loss of the optimizers,
            or of each by number or name. None takes what ``training_step`` returns.
        on_conflict: ``"raise"`` refuses a module with a scheduler of its own, ``"override"`` ignores what it sets.
        on_error: ``"fallback"`` hands an ailing run back to its base schedule, with a warning; ``"raise"`` stops it.
        granularity: ``"network"``, one multiplier for all, or ``"tensor"``, one for each parameter, by its own signals,
            near the mean of all. During the fit the optimizer then has a parameter group for each; checkpoints hold the
            groups of ``configure_optimizers``. Logged are then means.
        on_divergence: ``"restore"`` takes a run that has exploded back to where it was healthy, with a tenth of the rate,
            for which two copies of parameters and the optimizer's averages are kept; ``"cut"`` only lowers the rate.
        average: an average of the weights, which forgets all but the last few per cent of the run
            (:mod:`rl_lr.averaging`), is validated, is the ``state_dict`` of checkpoints (of those that hold
            more than weights, as with Lightning's ``WeightAveraging``) and stays in the module after the fit.

    Attributes:
        schedulers: during a fit, the :class:`rl_lr.RLScheduler` of each controlled optimizer by its number.
        names: of the optimizers of the latest fit, by their number.

    Raises:
        PolicyFileError: at once, if the policy cannot be loaded.
        ValueError: at once, for a horizon below 1 or an unknown choice; at the start of a fit, for an optimizer
            that cannot be controlled (:mod:`rl_lr.supported`) or a checkpoint of other settings.
        MisconfigurationException: Lightning's, at the start of a fit, for a scheduler of the module's own, DeepSpeed,
            an optimizer that is not there, or ``monitor`` in automatic optimization; at the first step of an
            optimizer in manual optimization, if it has no loss.
    """

    def __init__(
        self,
        policy: str | Policy = "default",
        *,
        total_steps: int | None = None,
        base_schedule: BaseSchedule = "cosine",
        optimizers: Chosen | Sequence[Chosen] | None = None,
        monitor: str | Mapping[Chosen, str] | None = None,
        on_conflict: OnConflict = "raise",
        on_error: OnError = "fallback",
        granularity: Granularity = "network",
        on_divergence: OnDivergence = "restore",
        average: bool = False,
    ) -> None:
        self.total_steps = whole_steps(total_steps)
        check_on_conflict(on_conflict)
        check_schedule(base_schedule)
        check_granularity(granularity)
        check_on_divergence(on_divergence)
        self.policy = policy if isinstance(policy, Policy) else Policy.load(policy)
        self.base_schedule = base_schedule
        self.optimizers = [optimizers] if isinstance(optimizers, (int, str)) else optimizers
        self.monitor, self.on_conflict, self.on_error = monitor, on_conflict, on_error
        self.granularity, self.on_divergence, self.average = granularity, on_divergence, average
        self._key = self._generate_state_key(optimizers=self.optimizers)  # Lightning asks five times a step
        self.schedulers: dict[int, RLScheduler] = {}
        self._averages = Averages()
        self.names: dict[int, str] = {}
        self._losses: Losses | None = None
        self._fallbacks = Fallbacks(on_error, type(self).__name__)
        self._bound: list[Optimizer] = []  # the Trainer's, controlled or not
        self._made: dict[int, int] = {}  # steps of this fit under optimizers that were replaced
        self._restored: dict[int, Any] = {}
        self._waited: dict[int, list[torch.Tensor]] = {}  # losses, in the fit that is resumed
        self._final: dict[int, Any] = {}  # state at the end of the latest fit
        self._settings, self._planned = list[Any](), list[Any]()  # of the horizon; in the fit that is resumed
        self._interval: float = 1  # steps between rates that are logged

    @property
    def scheduler(self) -> RLScheduler | None:
        """The only scheduler of the fit under way; None before, after, and where there are several."""
        return next(iter(self.schedulers.values())) if len(self.schedulers) == 1 else None

    @property
    @override
    def state_key(self) -> str:
        """Tells callbacks of different optimizers apart in a checkpoint."""
        return self._key

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """A fit begins anew: what is saved before it has begun is not the end of the one before."""
        if stage == "fit":
            self._final = {}

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bind to the optimizers: after restoring, so that base rates come from our own state."""
        self._made.clear()
        self._bind(trainer, "The checkpoint was made without RLLearningRate, or for other optimizers")

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Bind anew if somebody has put other optimizers in the place of ours since the last batch."""
        if self._losses is None or trainer.optimizers == self._bound:
            return
        for index, scheduler in self.schedulers.items():
            self._made[index] = self._made.get(index, 0) + scheduler.controller.step
        try:
            self._bind(trainer, "The optimizers of this fit were replaced by others")
        except Exception as error:
            if self.on_error == "raise":
                raise
            rank_zero_warn(f"RLLearningRate lets new optimizers keep the rates they have: {error}")

    def _bind(self, trainer: Trainer, new: str) -> None:
        """Take hold of the chosen optimizers; ``new`` tells why the state of some may be unknown."""
        self._let_go()
        if self.average:
            check_average(trainer, sum(one.average for one in callbacks_of(trainer, RLLearningRate)))
        check_trainer(trainer, self.on_conflict, self.granularity)
        self._bound, known = list(trainer.optimizers), names(trainer.optimizers)
        wanted = range(len(known)) if self.optimizers is None else self.optimizers
        chosen = sorted({index_of(one, trainer.optimizers) for one in wanted})
        self.names = {index: known[index] for index in chosen}
        self._losses = Losses(trainer, chosen, self.monitor, self._waited)
        self._fallbacks = Fallbacks(self.on_error, type(self).__name__)
        self._settings = (horizon := Horizon(trainer)).settings
        if horizon.left is None and self.total_steps is None and not self.average:
            warn_of_no_horizon()
        try:
            for index in chosen:
                self._control(trainer, index, horizon)
        except Exception:
            self._let_go()
            raise
        if self._restored.keys() != self.schedulers.keys() and trainer.global_step > 0:
            rank_zero_warn(
                f"{new}: base rates that are not known from before are the optimizer's present ones, and their schedule "
                f"starts anew."
            )
        self._restored, self._waited, self._averages = {}, {}, Averages(self.schedulers.values())
        self._interval = trainer.log_every_n_steps or math.inf  # type: ignore[attr-defined]
        for index, scheduler in self.schedulers.items():
            if scheduler.controller.step % self._interval == 0:
                self._log(trainer, index, decided=scheduler.controller.step == 0)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report the loss of every optimizer that made a step in this batch."""
        if self._losses is None:
            return
        self._losses.add(outputs)
        for index, scheduler in self.schedulers.items():
            if scheduler.untold:
                self._fallbacks.step(scheduler, self._losses.take(index))
                decided = scheduler.controller.just_decided
                if decided or scheduler.controller.step % self._interval == 0:
                    self._log(trainer, index, decided)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say so if the horizon was reckoned with more steps than the optimizers make."""
        if self.total_steps is None and self._losses is not None:
            self._losses.check_pace()

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate averaged weights, if there are any."""
        self._averages.show()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with those that are trained."""
        self._averages.hide()

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave averaged weights in the module, if there are any."""
        self._averages.keep()

    @override
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Averaged weights; and optimizers' states with the parameter groups that they can be loaded into before we come."""
        self._averages.into(checkpoint, pl_module)
        states = checkpoint.get("optimizer_states", [])
        for index, scheduler in self.schedulers.items():
            if index < len(states):
                states[index] = scheduler.joined(states[index])

    @override
    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with the weights that were trained, not with their average."""
        if self.average:
            go_on(trainer, pl_module, checkpoint)

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the optimizers at the end of the fit, and of a state that none of its optimizers took up."""
        self._let_go()
        self._restored, self._waited = {}, {}

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let go however the fit ended."""
        self.teardown(trainer, pl_module, "fit")

    @override
    def state_dict(self) -> dict[str, Any]:
        """The schedulers' states as plain types and tensors; after a fit, those of its end."""
        now = {index: one.state_dict() for index, one in self.schedulers.items()} or self._final
        losses = {} if self._losses is None else self._losses.state_dict()
        return {"optimizers": now, "losses": losses, "settings": self._settings} if now else {}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep it until the optimizers exist."""
        self._restored, self._waited = dict(state_dict.get("optimizers", {})), state_dict.get("losses", {})
        self._planned = state_dict.get("settings", [])

    def _control(self, trainer: Trainer, index: int, horizon: Horizon) -> None:
        """Build the scheduler of an optimizer, as it was saved if it was."""
        saved = self._restored.get(index)
        total = self.total_steps and max(1, self.total_steps - self._made.get(index, 0))
        scheduler = RLScheduler(
            trainer.optimizers[index],
            total or horizon.total(saved and saved["controller"], self._planned),
            self.policy,
            self.base_schedule,
            granularity=self.granularity,
            on_divergence=self.on_divergence,
            buffers=trainer.lightning_module.buffers(),
            agree=mean_over_ranks(trainer),
            average=self.average,
        )
        self.schedulers[index] = scheduler  # so that it is let go of if the state does not fit
        if saved:
            scheduler.load_state_dict(saved)

    def _let_go(self) -> None:
        """Keep the state and detach."""
        self._averages.hide()
        if self.schedulers:
            self._final = {index: one.state_dict() for index, one in self.schedulers.items()}
        for scheduler in self.schedulers.values():
            scheduler.detach()
        self.schedulers, self._losses, self._averages = {}, None, Averages()

    def _log(self, trainer: Trainer, index: int, decided: bool) -> None:
        """Rates; at decisions offset, action and signals, too."""
        prefix = "rl_lr" if len(trainer.optimizers) == 1 else f"rl_lr/{self.names[index]}"
        log(trainer, self.schedulers[index], prefix, decided, self._fallbacks.metrics())
