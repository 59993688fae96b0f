"""One fit of a Trainer that stops at decisions: built, run, judged and ended.

Loaded when the first fit begins: the one place where environments need callbacks.
"""

import copy
import logging
import math
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from lightning_utilities.core import rank_zero
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor
from typing_extensions import override

from rl_lr.callbacks import RLLearningRate
from rl_lr.callbacks.choosing import index_of, names
from rl_lr.callbacks.horizon import steps_left
from rl_lr.envs.at_rest import AtRest
from rl_lr.envs.turns import THREADS, Ask, Turns
from rl_lr.policy import Policy
from rl_lr.randomness import kept
from rl_lr.signals import NUM_SIGNALS

if TYPE_CHECKING:
    from rl_lr.envs.lightning_fit import LightningFit

_QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
_JUDGED = 0.1  # share of a fit's steps, its last ones, whose mean training loss is its result


@dataclass(frozen=True)
class Asking(Policy):
    """A policy that asks somebody else."""

    layers: tuple[tuple[Tensor, Tensor], ...] = field(default_factory=lambda: Policy.keep().layers)
    ask: Ask = Policy.keep().act
    """Signals ``[1, NUM_SIGNALS]`` in, action ``[1]`` out."""

    def act(self, signals: Tensor) -> Tensor:
        """Whatever the answer is."""
        return self.ask(signals)


class FitUnderWay:
    """A fit, stopped at a decision.

    Attributes:
        over: whether it has ended.
        horizon: its optimizer steps, once it has begun.
        lr: rate of the step made last.
        first_loss: training loss that those of the windows are measured against, of the initial weights.
        window_loss: mean training loss between the latest two decisions.
        initial_loss: what the result is measured against: loss of the initial weights.
        final_loss: the result; NaN before the end.

    Args:
        env: says what is fitted, and how.
        seed: of the global random generators of this fit.
        factor: multiplies the rates of ``configure_optimizers``.
        at_rest: training loss of the initial weights by seed, as far as fits of the same have measured it; what this
            one measures is added.
    """

    def __init__(self, env: "LightningFit", seed: int, factor: float, at_rest: dict[int, Tensor]) -> None:
        self._env, self._seed, self._factor, self._known = env, seed, factor, at_rest
        self.over, self.horizon, self.lr = False, 0, math.nan
        unknown = torch.tensor(math.nan, dtype=torch.float64)
        self.first_loss = self.window_loss = self.initial_loss = self.final_loss = unknown
        self._losses: list[Tensor] = []
        self._last_signals = torch.zeros(NUM_SIGNALS)
        self._callback: RLLearningRate | None = None
        self._turns = Turns(self._train, seed)

    @property
    def step(self) -> int:
        """Optimizer steps made."""
        return len(self._losses)

    def begin(self) -> Tensor:
        """Run to the first decision; its signals ``[NUM_SIGNALS]``."""
        signals = self._turns.go_on()
        if signals is None:
            raise ValueError(
                f"The fit of {self._env.name!r} ended before its first step: give trainer_kwargs under which it trains."
            )
        if self.horizon < self._env.control.decision_count:
            self.close()
            raise ValueError(
                f"The fit of {self._env.name!r} makes {self.horizon} optimizer steps, fewer than the "
                f"{self._env.control.decision_count} decisions of a run: raise max_epochs or max_steps."
            )
        return signals[0]

    def go_on(self, action: Tensor) -> Tensor:
        """Answer the open decision, ``[1]``, and run to the next one or the end; the signals there."""
        signals = self._turns.go_on(action)
        self.over = signals is None
        return self._last_signals if signals is None else signals[0]

    def close(self) -> None:
        """End it where it stands."""
        self._turns.close()

    def _train(self, ask: Ask) -> None:
        """The whole fit, in a thread of its own."""
        env = self._env
        _hush_what_every_fit_says()
        settings = _QUIET | copy.deepcopy(env.trainer_kwargs)
        own = settings.pop("callbacks", None) or []
        if env.monitor is None:
            if self._seed not in self._known:
                with kept():
                    self._known[self._seed] = self._at_rest(settings)
            self.first_loss = self._known[self._seed]
        module, data = self._built()

        def stop_and_ask(signals: Tensor) -> Tensor:
            self._look()
            return ask(signals)

        self._callback = RLLearningRate(
            Asking(control=env.control, name="asking", ask=stop_and_ask),
            base_schedule=env.base_schedule,
            optimizers=env.optimizer,
            on_conflict=env.on_conflict,
            on_error="raise",
        )
        callbacks = [
            *(own if isinstance(own, list) else [own]),
            _Misjudged(self),
            self._callback,
            _Watched(self),
        ]
        trainer = pl.Trainer(**settings, callbacks=callbacks)
        initial = self._monitored(trainer, module, data)
        self._check_positive(self.first_loss if initial is None else initial)
        trainer.fit(module, data)
        self._judge(initial, self._monitored(trainer, module, data))

    def _at_rest(self, settings: dict[str, Any]) -> Tensor:
        """Training loss of the initial weights, by a Trainer of its own."""
        module, data = self._built()
        resting = AtRest(_JUDGED, self._env.optimizer)
        quick = {
            "logger": False,
            "limit_val_batches": 0,
            "num_sanity_val_steps": 0,
            "enable_checkpointing": False,
        }
        pl.Trainer(**settings | quick, callbacks=[resting]).fit(module, data)
        return resting.loss

    def _built(self) -> tuple[pl.LightningModule, Any]:
        """Module and data, refused if the factories gave something else."""
        env = self._env
        module = env.module_factory()
        if not isinstance(module, pl.LightningModule):
            raise TypeError(
                f"module_factory of {env.name!r} returned {type(module).__name__}: it must build a LightningModule "
                f"(of pytorch_lightning or of lightning, as installed with rl-lr)."
            )
        data = None if env.data_factory is None else env.data_factory()
        if not _has_training_data(module if data is None else data):
            raise TypeError(
                f"{env.name!r} has nothing to train on: data_factory returns a DataModule with train_dataloader() or a "
                f"loader of batches, or is left out if the module itself has train_dataloader(); "
                f"got {type(data).__name__}."
            )
        return module, data

    def _monitored(self, trainer: pl.Trainer, module: pl.LightningModule, data: Any) -> Tensor | None:
        """The metric that the run is judged by, now; None if that is its training loss."""
        monitor = self._env.monitor
        if monitor is None:
            return None
        with_loader = data if isinstance(data, pl.LightningDataModule) else None
        metrics = trainer.validate(module, datamodule=with_loader, verbose=False)[0]
        if monitor not in metrics:
            raise ValueError(
                f"monitor is {monitor!r}, and validation of {self._env.name!r} logs {sorted(metrics) or 'nothing'}: name one "
                f"of these, or log it in validation_step."
            )
        return torch.tensor(metrics[monitor], dtype=torch.float64)

    def _check_positive(self, initial: Tensor) -> None:
        """Refuse what runs cannot be told apart by."""
        if initial <= 0.0:
            raise ValueError(
                f"The {self._env.monitor or 'training loss'} of {self._env.name!r} is {float(initial):g} before the fit, and "
                f"what fits came to is told by their shares of it: judge by a loss that is above zero (monitor=...)."
            )

    def _judge(self, initial: Tensor | None, final: Tensor | None) -> None:
        """What the fit came to."""
        if initial is None or final is None:
            last = self._losses[-max(1, round(_JUDGED * len(self._losses))) :]
            initial, final = self.first_loss, torch.stack(last).mean()
        self.initial_loss, self.final_loss = initial, final

    def _look(self) -> None:
        """At a decision: what happened since the last one; nothing before the first."""
        scheduler = self._callback.scheduler if self._callback else None
        if scheduler is not None:
            self.lr = scheduler.get_last_lr()[0]
            self.window_loss = scheduler.controller.last_loss[0]

    def _begun(self, trainer: pl.Trainer) -> None:
        """Misjudge the base rate, before anybody reads it."""
        chosen = self._env.optimizer
        if chosen is None and len(trainer.optimizers) > 1:
            raise ValueError(
                f"{self._env.name!r} has several optimizers, {', '.join(names(trainer.optimizers))}: choose the one that is "
                f"controlled, LightningFit(..., optimizer=...)."
            )
        for group in trainer.optimizers[index_of(chosen or 0, trainer.optimizers)].param_groups:
            group["lr"] *= self._factor
        horizon = steps_left(trainer)
        if horizon is None:
            raise ValueError(
                f"The Trainer of {self._env.name!r} cannot tell how many optimizer steps its fit makes: set max_steps in "
                f"trainer_kwargs."
            )
        self.horizon = horizon

    def _stepped(self) -> None:
        """An optimizer step was made, perhaps."""
        scheduler = self._callback.scheduler if self._callback else None
        if scheduler is None or scheduler.controller.step == len(self._losses):
            return
        self._losses.append(scheduler.controller.latest_loss[0])
        if self.first_loss.isnan():
            self.first_loss = self._losses[0]

    def _ended(self) -> None:
        """The optimizer will make no more steps."""
        scheduler = self._callback.scheduler if self._callback else None
        if scheduler is not None:
            self._look()
            self._last_signals = scheduler.signals()[0]


class _Misjudged(pl.Callback):
    """Comes before the callback that deploys: sets the base rate that it finds."""

    def __init__(self, fit: FitUnderWay) -> None:
        self._fit = fit

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._fit._begun(trainer)


class _Watched(pl.Callback):
    """Comes after it: sees what it was told."""

    def __init__(self, fit: FitUnderWay) -> None:
        self._fit = fit

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._fit._stepped()

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._fit._ended()


def _hush_what_every_fit_says() -> None:
    """Of what Lightning says of every fit, nothing, since it is one of hundreds."""
    rank_zero.log.addFilter(_is_worth_reading)
    for text in (".*LeafSpec.*is deprecated", ".*does not have many workers"):
        warnings.filterwarnings("ignore", text)


def _is_worth_reading(record: logging.LogRecord) -> bool:
    """Whatever other threads log, and doubts."""
    return record.levelno > logging.INFO or record.threadName != THREADS


def _has_training_data(source: Any) -> bool:
    """A DataModule or a module must say what it trains on; anything else that can be iterated is a loader."""
    if isinstance(source, pl.LightningDataModule):
        return is_overridden("train_dataloader", source, pl.LightningDataModule)
    if isinstance(source, pl.LightningModule):
        return is_overridden("train_dataloader", source, pl.LightningModule)
    return hasattr(source, "__iter__")
