"""ConvergenceBoard: TensorBoard opens on how a fit converges, and why its rate is what it is."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning import Callback, LightningModule, Trainer
from typing_extensions import override

from rl_lr.callbacks.checks import callbacks_of
from rl_lr.callbacks.learning_rate import RLLearningRate
from rl_lr.scheduler import RLScheduler

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from rl_lr.charts import Layout

SHOWN = ("hypergradient_slow", "curvature_slow", "gradient_snr_slow", "straightness_slow", "loss_trend_slow")
"""Signals of the third chart, averages over about four decisions."""


class ConvergenceBoard(Callback):
    """Charts, figures and a summary of a fit for TensorBoard, beside :class:`RLLearningRate`.

    ::

        Trainer(callbacks=[RLLearningRate(), ConvergenceBoard()], logger=TensorBoardLogger("logs"))

    ``rl-lr board logs`` then opens on *custom scalars*, four charts: the loss; the rate with what the base
    schedule alone would give and the bounds between which it may move; signals behind the decisions; what the
    guard did. *Images* holds loss, rate and offset on one time axis, *Text* the policy with its checksum,
    *HParams* a row for the run, to be sorted by its final loss, the mean of the steps before the last decision, or
    by its regret, the log of that over the baseline's. All of it is written at decisions, to every TensorBoard
    logger, on the first rank only; without such a logger nothing happens. A fit resumed into the same log folder
    hides what was logged there after its checkpoint.

    Args:
        figure_every: decisions between two figures; 0 for one at the end.
        baseline: log folder of another fit with this callback whose loss is drawn beside it, such as
            the base schedule's own, ``RLLearningRate(Policy.keep())``.

    Attributes:
        traces: what was shown, by the prefix of its tags.

    Raises:
        ValueError: for a negative ``figure_every``; at the start of a fit, if ``baseline`` holds no such logs,
            or none of an optimizer of the same name where there are several.
    """

    def __init__(self, figure_every: int = 14, baseline: str | Path | None = None) -> None:
        if figure_every < 0:
            raise ValueError(f"figure_every is {figure_every}: give a number of decisions, or 0.")
        self.figure_every, self.baseline = figure_every, baseline
        self.traces: dict[str, Any] = {}
        self._baselines: dict[str, Any] = {}
        self._shown: dict[str, int] = {}  # optimizer steps made before the latest decision shown
        self._restored: dict[str, Any] = {}
        self._begun = False

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing is shown of the fit yet."""
        self.traces, self._shown, self._begun = {}, {}, False

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Show a decision that was just made, whichever callback came first."""
        if not self._begun:
            self._begin(trainer)
        if self.traces:
            self._show(trainer)

    def _begin(self, trainer: Trainer) -> None:
        """Write the layout, and what does not change."""
        self._begun, restored, self._restored = True, self._restored, {}
        writers, shown = _writers(trainer), _shown(trainer)
        if not writers:
            return
        # Libraries that nobody should wait for who has no board.
        from rl_lr.charts import hide_after, write_layout
        from rl_lr.plot import Trace, read

        for prefix, scheduler in shown:
            if self.baseline is not None:
                self._baselines[prefix] = read(self.baseline, prefix)
            before = restored.get(prefix, {"shown": -1, "trace": {}})
            self._shown[prefix] = before["shown"]
            self.traces[prefix] = Trace(**{"bound": scheduler.controller.config.bound} | before["trace"])
        layout = {title: charts for prefix, _ in shown for title, charts in _charts(prefix).items()}
        for writer in writers:
            if trainer.global_step:
                hide_after(writer, trainer.global_step)
            write_layout(writer, layout)
            for prefix, scheduler in shown:
                writer.add_text(f"{prefix}/policy", _about(scheduler), trainer.global_step)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last figure, and the row of the run."""
        if not self.traces:
            return
        self._show(trainer)
        from rl_lr.charts import write_row

        settings: dict[str, str | float] = {}
        metrics: dict[str, float | None] = {}
        for prefix, scheduler in _shown(trainer):
            self._draw(trainer, prefix)
            controller, name = scheduler.controller, prefix.removeprefix("convergence")
            settings |= {
                f"policy{name}": scheduler.policy.name if scheduler.policy else "",
                f"base_lr{name}": scheduler.base_lrs[0],
                f"base_schedule{name}": controller.timetable.schedule,
                f"horizon{name}": controller.timetable.total_steps or -1,
            }
            final, baseline = float(controller.last_loss.mean()), self._baselines.get(prefix)
            metrics |= {f"{prefix}/final_loss": final, f"{prefix}/regret": None}
            if baseline is not None and final > 0:
                metrics[f"{prefix}/regret"] = math.log(final) - math.log(10.0) * baseline.loss[-1]
        for writer in _writers(trainer):
            write_row(writer, settings, metrics, trainer.global_step)

    @override
    def state_dict(self) -> dict[str, Any]:
        """What was shown, as plain types, so that figures of a resumed fit begin where the fit did."""
        return {
            prefix: {"shown": self._shown[prefix], "trace": asdict(one)}
            for prefix, one in self.traces.items()
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep it until the optimizers exist."""
        self._restored = dict(state_dict)

    def _show(self, trainer: Trainer) -> None:
        """Scalars of every decision just made, and a figure now and then."""
        from rl_lr.plot import Trace

        for prefix, scheduler in _shown(trainer):
            bound, made = scheduler.controller.config.bound, scheduler.controller.step
            trace = self.traces.setdefault(prefix, Trace(bound=bound))  # it may have been replaced by another
            if not scheduler.controller.just_decided or made == self._shown.get(prefix):
                continue
            self._shown[prefix], values = made, _values(scheduler)
            trace.add(trainer.global_step, values)
            for writer in _writers(trainer):
                for name, value in values.items():
                    writer.add_scalar(f"{prefix}/{name}", value, trainer.global_step)
            if self.figure_every and len(trace.steps) % self.figure_every == 0:
                self._draw(trainer, prefix)

    def _draw(self, trainer: Trainer, prefix: str) -> None:
        from rl_lr.plot import draw

        for writer in _writers(trainer):
            figure = draw(self.traces[prefix], self._baselines.get(prefix))
            writer.add_figure(f"{prefix}/run", figure, trainer.global_step)


def _writers(trainer: Trainer) -> "list[SummaryWriter]":
    """TensorBoard's writer of every logger that has one, on the first rank."""
    if not trainer.is_global_zero:
        return []
    from torch.utils.tensorboard import SummaryWriter

    experiments = [getattr(logger, "experiment", None) for logger in trainer.loggers]
    return [one for one in experiments if isinstance(one, SummaryWriter)]


def _shown(trainer: Trainer) -> list[tuple[str, RLScheduler]]:
    """Every controlled optimizer, with the prefix of its tags."""
    several = len(trainer.optimizers) > 1
    return [
        (f"convergence/{callback.names[index]}" if several else "convergence", scheduler)
        for callback in callbacks_of(trainer, RLLearningRate)
        for index, scheduler in callback.schedulers.items()
    ]


def _values(scheduler: RLScheduler) -> dict[str, float]:
    """What the charts show of a decision; logarithms to base 10, as they have no logarithmic axis."""
    controller = scheduler.controller
    offset, base = float(controller.offset.mean()), scheduler.base_lrs[0] * controller.now.schedule
    loss = float(controller.last_loss.mean())
    nats, schedule = math.log(10.0), math.log10(base)
    values = {
        "rate": schedule + offset / nats,
        "schedule": schedule,
        "lowest": schedule - controller.config.bound / nats,
        "highest": schedule + controller.config.bound / nats,
        "offset": offset,
        "bound": controller.config.bound,
        "events": float(controller.guard_events[0] + controller.rewinds[0]),
    }
    return values | ({"loss": math.log10(loss)} if loss > 0 else {})


def _charts(prefix: str) -> "Layout":
    """The layout of the page of custom scalars."""
    from rl_lr.charts import bands, lines

    logged = prefix.replace("convergence", "rl_lr", 1)
    rate, schedule = (f"{prefix}/{name}" for name in ("rate", "schedule"))
    return {
        f"{prefix}: loss and rate": [
            lines("training loss between decisions (log10)", f"{prefix}/loss"),
            bands(
                "learning rate (log10): ■ set ◆ base schedule",
                (rate, f"{prefix}/lowest", f"{prefix}/highest"),
                (schedule, schedule, schedule),
            ),
        ],
        f"{prefix}: why": [
            lines("signals behind the decisions", *(f"{logged}/signal/{name}" for name in SHOWN)),
            lines("guard: cuts and returns to healthy weights", f"{prefix}/events"),
        ],
    }


def _about(scheduler: RLScheduler) -> str:
    """The policy and the run, in words."""
    policy, table = scheduler.policy, scheduler.controller.timetable
    name, checksum = (policy.name, policy.sha256) if policy else ("none", "")
    return (
        f"Policy **{name}**, sha256 `{checksum}`. Horizon {table.total_steps or 'unknown'} steps, base schedule "
        f"{table.schedule}, base rates {', '.join(f'{rate:g}' for rate in scheduler.base_lrs)}."
    )
