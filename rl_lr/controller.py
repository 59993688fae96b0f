"""The control law: one offset per run, moved at decisions, cut by the guard.

.. code-block:: text

    lr(t) = base_lr · s(t) · exp(o_k)                     between decisions k and k + 1
    o_k   = clip(o_{k-1} + A · a_k, -B, B)                a_k ∈ [-1, 1], the policy's action
    o     ← max(o - log 10, -B)                           when the guard sees a loss explode
    o     ← max(o_{k-1} - log 10, -B), and the weights as they were at the last decision after which the
            run was surely healthy, for a run that at decision k has not come back from it

with s the base schedule (:mod:`rl_lr.schedules`), o in nats, A = ``config.step`` (inside the
warm-up ``config.warmup_step``) and B = ``config.bound``. The policy sees :mod:`rl_lr.signals` and never a learning rate.
"""

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from rl_lr.config import ControlConfig
from rl_lr.schedules import BaseSchedule
from rl_lr.signals import Position, Signals
from rl_lr.timetable import Timetable

_SILENT = torch.finfo(torch.float64).max  # the alarm before a level is known: only infinity exceeds it

LAW = 2
"""Counts the changes of this module after which the same policy makes other runs."""

FALLEN = 1.0
"""A run has fallen if the mean loss of a window exceeds its starting level by this many times its scale:
less than the guard's ratio, because a mean is steadier than one loss."""

_SPREADS = 4.0  # the scale is at least as many standard deviations: a loss may start anywhere near zero

_MOST_REWINDS = 5  # in a row: if the loss is still up there then, it is not the rate's doing

_REGROWTH = 1.5  # a loss must grow by this factor after a cut before the guard cuts again


class Controller:
    """Controls the step sizes of ``runs`` runs that share a horizon.

    The order of one step, in the engine and under a torch optimizer alike: step with
    :meth:`rates`, then :meth:`record`, then, if :attr:`due`, :meth:`rewind`, :meth:`signals` and :meth:`act`.

    Attributes:
        step: optimizer steps recorded so far, t.
        offset: o, ``[runs]`` float64, in nats.
        guard_events: ``[runs]`` int64, cuts so far.
        rewinds: ``[runs]`` int64, times that a run went back to where it was healthy.

    Args:
        runs: number of runs; where every tensor has its own rate, runs × tensors.
        width: coordinates in a sketch of gradient or weights.
        total_steps: the horizon T, in optimizer steps; None if unknown (:mod:`rl_lr.timetable`).
        schedule: name of the base schedule.
        config: constants of the law, those the policy was trained with.
        device: where losses and sketches live.
    """

    def __init__(
        self,
        runs: int,
        width: int,
        total_steps: int | None,
        schedule: BaseSchedule = "cosine",
        config: ControlConfig | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.width, self.config = width, config or ControlConfig()
        self.timetable = Timetable(total_steps, schedule, self.config)
        self.step = 0
        self.offset = torch.zeros(runs, dtype=torch.float64, device=device)
        self.last_action = torch.zeros_like(self.offset)
        self.guard_events = torch.zeros(runs, dtype=torch.int64, device=device)
        self.rewinds = torch.zeros_like(self.guard_events)
        self._rewound = torch.zeros_like(self.guard_events)  # in a row
        self._judged = -1  # step at which rewind() looked last
        self._decided_offset = self.offset
        self._latest = torch.zeros_like(self.offset)  # loss
        self._level = torch.full_like(self.offset, math.nan)  # where the loss began, and how large it was
        self._scale = torch.full_like(self.offset, math.nan)
        self._alarm = torch.full_like(self.offset, _SILENT)
        self._signals = Signals(runs, width, device)
        self._decided = -1  # step of the latest decision
        self._factor_of: Tensor | None = None  # the offset that _factor is the exponential of

    def rates(self) -> Tensor:
        """What multiplies every base rate at the coming step: s(t)·exp(o), ``[runs]`` float64."""
        if self._factor_of is not self.offset:  # it changes at decisions only, and at cuts
            self._factor_of, self._factor = self.offset, self.offset.exp()
        return self.schedule_value * self._factor

    @property
    def schedule_value(self) -> float:
        """s(t) of the coming step."""
        return self.timetable.value(self.step)

    @property
    def over(self) -> bool:
        """Whether the horizon is reached."""
        return self.timetable.is_over(self.step)

    @property
    def latest_loss(self) -> Tensor:
        """Loss of the step recorded last, ``[runs]`` float64."""
        return self._latest

    @property
    def last_loss(self) -> Tensor:
        """Mean loss of the window that the latest decision closed, ``[runs]``; NaN before the first."""
        return self._signals.last_loss

    @property
    def due(self) -> bool:
        """Whether the policy must act before the coming step."""
        return self._decided < self.step and self.timetable.is_decision(self.step)

    @property
    def just_decided(self) -> bool:
        """Whether the policy acted right before the coming step."""
        return self._decided == self.step

    @property
    def _warming_up(self) -> bool:
        return self.step < self.timetable.warmup

    @property
    def measures(self) -> bool:
        """Whether the coming step's gradient and weights are wanted."""
        return self.timetable.is_measured(self.step)

    def record(self, loss: Tensor, grad: Tensor | None = None, weights: Tensor | None = None) -> None:
        """Take in the step just made: :meth:`rl_lr.signals.Signals.record`, then the guard."""
        loss = loss.detach().to(self.offset)
        self._signals.record(loss, grad, weights)
        self._latest = loss
        if not self._plainly_healthy(loss):
            self._guard(loss)
        self.step += 1

    def rewind(self) -> tuple[Tensor, Tensor]:
        """Before :meth:`signals`, and at the end: who must go back to where they were last healthy, and who is.

        A run has fallen if its loss is not finite now, or was on average since the last decision above
        its starting level by :data:`FALLEN` times its scale. What that window measured is forgotten, and
        the offset is what it was, less one cut. Whoever holds the weights puts back those of the fallen,
        and keeps those of the healthy for the next time. A run that is neither has just begun to fall, or
        not: the next decision tells. One that has fallen five times in a row begins anew where it is.

        Returns:
            Fallen and healthy runs, ``[runs]`` bool each; asked twice at the same step, nobody is either.
        """
        if self._judged == self.step:
            nobody = torch.zeros_like(self.offset, dtype=torch.bool)
            return nobody, nobody
        self._judged = self.step
        high, mean = self._threshold(FALLEN), self._signals.window_loss
        fallen = ~self._latest.isfinite() | (mean > high)
        if self.over:  # there is no next decision that could tell
            fallen |= self._latest > self._threshold(self.config.guard_ratio)
        fallen &= math.isfinite(self.config.guard_ratio)
        anew = fallen & (self._rewound == _MOST_REWINDS) & mean.isfinite()
        self._level = torch.where(anew, mean, self._level)
        self._scale = torch.where(anew, torch.maximum(self._scale, mean.abs()), self._scale)
        fallen &= self._rewound < _MOST_REWINDS
        healthy = ~(fallen | (self._latest > high))
        self._rewound = torch.where(fallen, self._rewound + 1, 0)
        self.rewinds = self.rewinds + fallen
        if fallen.any():
            self._signals.forget(fallen)
            cut = (self._decided_offset - self.config.guard_cut).clamp_min(-self.config.bound)
            self.offset = torch.where(fallen, cut, self.offset)
            self._latest = torch.where(fallen, 0.0, self._latest)
            self._alarm = torch.where(fallen, _SILENT, self._alarm)  # until signals() sets it again
        return fallen, healthy

    def signals(self) -> Tensor:
        """Close the window; what the policy sees now, ``[runs, NUM_SIGNALS]`` float32."""
        t, (_, following) = self.step, self.timetable.window(self.step)
        log_now = math.log(self.schedule_value)
        place = Position(
            progress=self.timetable.progress(t),
            log_schedule=log_now,
            schedule_slope=math.log(self.timetable.value(following)) - log_now,
            in_warmup=self._warming_up,
            offset=self.offset / self.config.bound,
            last_action=self.last_action,
        )
        table = self._signals.read(place)
        self._watch()
        return table

    def act(self, action: Tensor) -> None:
        """Move the offsets by one decision's actions, ``[runs]``, clipped to [-1, 1].

        A non-finite action keeps the offset: a policy's fault must not end a run. Nor may a run that has
        just gone back go up again at once.
        """
        bound = self.config.bound
        action = action.detach().to(self.offset).nan_to_num(0.0, 0.0, 0.0).clamp(-1.0, 1.0)
        action = torch.where(self._rewound > 0, action.clamp_max(0.0), action)
        largest = self.config.warmup_step if self._warming_up else self.config.step
        self.offset = (self.offset + largest * action).clamp(-bound, bound)
        self.last_action = action
        self._decided, self._decided_offset = self.step, self.offset

    def _watch(self) -> None:
        """Set the alarm from the starting level; after a cut, not before the loss came down again."""
        first, spread = self._signals.first_loss, self._signals.first_spread
        scale = torch.maximum(first.abs(), _SPREADS * spread)
        self._scale = torch.where(self._level.isnan(), scale, self._scale)
        self._level = torch.where(self._level.isnan(), first, self._level)
        threshold = self._threshold(self.config.guard_ratio)
        calm = (self._alarm == _SILENT) | (self._signals.last_loss <= threshold)
        self._alarm = torch.where(calm & threshold.isfinite(), threshold, self._alarm)

    def _threshold(self, ratio: float) -> Tensor:
        """A loss above where the run began, ``[runs]``; NaN before the first window was read."""
        return self._level + ratio * self._scale

    def _plainly_healthy(self, loss: Tensor) -> bool:
        """Whether the guard need not look, told cheaply: on accelerators looking would cost a sync."""
        if loss.device.type != "cpu":
            return False
        if len(loss) == 1:  # a callback's case: comparing floats beats three calls into torch
            return -math.inf < loss.item() <= self._alarm.item()
        return bool((loss.abs() <= self._alarm).all())

    def _guard(self, loss: Tensor) -> None:
        """Cut the offset where the loss exploded, and again only if it grew since the last cut."""
        exploded = loss.nan_to_num(math.inf, math.inf, math.inf) > self._alarm
        cut = (self.offset - self.config.guard_cut).clamp_min(-self.config.bound)
        self.offset = torch.where(exploded, cut, self.offset)
        self.guard_events += exploded
        grown = _REGROWTH * loss.abs()
        self._alarm = torch.where(exploded & loss.isfinite(), grown, self._alarm)

    def state_dict(self) -> dict[str, Any]:
        """The whole state as plain types and tensors; fits ``torch.load(weights_only=True)``."""
        return {
            "total_steps": self.timetable.total_steps,
            "schedule": self.timetable.schedule,
            "width": self.width,
            "step": self.step,
            "decided": self._decided,
            "offset": self.offset.clone(),
            "last_action": self.last_action.clone(),
            "guard_events": self.guard_events.clone(),
            "rewinds": self.rewinds.clone(),
            "rewound": self._rewound.clone(),
            "judged": self._judged,
            "decided_offset": self._decided_offset.clone(),
            "latest": self._latest.clone(),
            "level": self._level.clone(),
            "scale": self._scale.clone(),
            "alarm": self._alarm.clone(),
            "signals": self._signals.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`; schedule and network must be the same.

        Another horizon is taken over with a warning: the rate stays what it was, and what is left of the
        run leads to the new end.
        """
        for name, mine in (("schedule", self.timetable.schedule), ("width", self.width)):
            if state[name] != mine:
                raise ValueError(
                    f"The saved run has {name}={state[name]!r}, this one {mine!r}: "
                    f"resume with the saved value, or start a new run."
                )
        device = self.offset.device
        self.step, self._decided, self._judged = state["step"], state["decided"], state["judged"]
        self.offset = state["offset"].to(device, copy=True)
        self.last_action = state["last_action"].to(device, copy=True)
        self.guard_events = state["guard_events"].to(device, copy=True)
        self.rewinds = state["rewinds"].to(device, copy=True)
        self._rewound = state["rewound"].to(device, copy=True)
        self._decided_offset = state["decided_offset"].to(device, copy=True)
        self._latest = state["latest"].to(device, copy=True)
        self._level = state["level"].to(device, copy=True)
        self._scale = state["scale"].to(device, copy=True)
        self._alarm = state["alarm"].to(device, copy=True)
        self._signals.load_state_dict(state["signals"])
        if state["total_steps"] != self.timetable.total_steps:
            self._change_horizon(state["total_steps"])

    def _change_horizon(self, planned: int | None) -> None:
        """Go on from where a run of ``planned`` steps was, at the rate that it had."""
        before = Timetable(planned, self.timetable.schedule, self.config)
        warnings.warn(
            f"The saved run was planned for {planned or 'an unknown number of'} steps and has made {self.step}; "
            f"it goes on towards {self.timetable.total_steps or 'an unknown number'}.",
            stacklevel=4,
        )
        shift = math.log(before.value(self.step) / self.schedule_value)
        self.offset = (self.offset + shift).clamp(-self.config.bound, self.config.bound)
        self._decided_offset = (self._decided_offset + shift).clamp(-self.config.bound, self.config.bound)
