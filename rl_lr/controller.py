"""The control law: one offset per run, moved at decisions, cut by the guard.

.. code-block:: text

    lr(t) = base_lr · s(t) · exp(o_k)                     between decisions k and k + 1
    o_k   = clip(o_{k-1} + A · a_k, -B, B)                a_k ∈ [-1, 1], the policy's action
    o_k   ← clip(o_k, ō_k - C, ō_k + C)                   where each tensor has one; ō_k is their mean in a network
    o     ← max(o - log 10, -B)                           when the guard sees a loss explode
    o     ← o + what that took off                        when the next loss is not up there: it was chance
    o     ← max(o_{k-1} - log 10, -B), and the weights as they were at the last decision after which the
            run was surely healthy, for a run that at decision k has not come back from it
    o     ← what it was before, if that has happened five times in a row: it is not the rate's doing

with s the base schedule (:mod:`rl_lr.schedules`), o in nats, A = ``config.step`` (inside the
warm-up ``config.warmup_step``), B = ``config.bound`` and C = ``APART``. The policy sees :mod:`rl_lr.signals` and never
a learning rate.
"""

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from rl_lr.backlog import Backlog
from rl_lr.config import ControlConfig
from rl_lr.guard import Guard
from rl_lr.schedules import BaseSchedule
from rl_lr.signals import Position, Signals
from rl_lr.timetable import Moment, Timetable

LAW = 5
"""Counts the changes of the law, guard included, after which the same policy makes other runs of one rate."""

APART = 0.5
"""C: most nats between a tensor's offset and the mean of its network's: left alone, single tensors go astray."""


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
        tensors: offsets of one network, neighbours in ``runs``: 1, or as many as it has tensors.
        deferred: whether the guard is told of losses by :meth:`catch_up` alone, which is then to be called before
            :meth:`rewind` and :meth:`signals`: for who reads offsets at decisions only.
    """

    def __init__(
        self,
        runs: int,
        width: int,
        total_steps: int | None,
        schedule: BaseSchedule = "cosine",
        config: ControlConfig | None = None,
        device: torch.device | str = "cpu",
        tensors: int = 1,
        deferred: bool = False,
    ) -> None:
        self._tensors, self._deferred, self._backlog = tensors, deferred, Backlog()
        self.width, self.config = width, config or ControlConfig()
        self.timetable = Timetable(total_steps, schedule, self.config)
        self.step = 0
        self.offset = torch.zeros(runs, dtype=torch.float64, device=device)
        self.last_action = torch.zeros_like(self.offset)
        self.guard_events = torch.zeros(runs, dtype=torch.int64, device=device)
        self.rewinds = torch.zeros_like(self.guard_events)
        self._judged = -1  # step at which rewind() looked last
        self._decided_offset = self.offset
        self._before_falls = self.offset  # at the decision before the first of those in a row
        self._latest: Tensor | float = torch.zeros_like(self.offset)  # loss
        self._guard = Guard(runs, self.config.guard_ratio, device)
        self._taken_off = torch.zeros_like(self.offset)  # by the latest cut
        self._signals = Signals(runs, width, device)
        self._decided = -1  # step of the latest decision
        self._factor_of: Tensor | None = None  # the offset that _factor is the exponential of

    def rates(self) -> Tensor:
        """What multiplies every base rate at the coming step: s(t)·exp(o), ``[runs]`` float64."""
        if self._factor_of is not self.offset:  # it changes at decisions only, and at cuts
            self._factor_of, self._factor = self.offset, self.offset.exp()
        return self.now.schedule * self._factor

    @property
    def now(self) -> Moment:
        """What holds for the coming step."""
        return self.timetable.at(self.step)

    @property
    def over(self) -> bool:
        """Whether the horizon is reached."""
        return self.timetable.is_over(self.step)

    @property
    def latest_loss(self) -> Tensor:
        """Loss of the step recorded last, ``[runs]`` float64."""
        return self._by_run(self._latest)

    @property
    def last_loss(self) -> Tensor:
        """Mean loss of the window that the latest decision closed, ``[runs]``; NaN before the first."""
        return self._signals.last_loss

    @property
    def due(self) -> bool:
        """Whether the policy must act before the coming step."""
        return self._decided < self.step and self.now.decides

    @property
    def just_decided(self) -> bool:
        """Whether the policy acted right before the coming step."""
        return self._decided == self.step

    @property
    def _warming_up(self) -> bool:
        return self.step < self.timetable.warmup

    def record(self, loss: Tensor | float, grad: Tensor | None = None, weights: Tensor | None = None) -> None:
        """Take in the step just made: :meth:`rl_lr.signals.Signals.record`, then the guard."""
        if isinstance(loss, Tensor):
            loss = loss.detach().to(self.offset)
        self._signals.record(loss, grad, weights)
        self._latest = loss
        if self._deferred:
            self._backlog.add(self._by_run(loss))
        elif not self._guard.feel(loss):
            self._answer(loss, self.just_decided)
        self.step += 1

    def catch_up(self) -> None:
        """Tell the guard of the losses that wait for it; looks at them once if all is well."""
        losses = self._backlog.take()
        if losses is None or self._guard.feel_all(losses):
            return
        for step, loss in enumerate(losses, self.step - len(losses)):
            if not self._guard.feel(loss):
                self._answer(loss, step == self._decided)

    def rewind(self) -> tuple[Tensor, Tensor]:
        """Before :meth:`signals`, and at the end: who must go back to where they were last healthy, and who is.

        Whoever holds the weights puts back those of the fallen, and keeps those of the healthy for the next
        time. What the window of a fallen run measured is forgotten, and its offset is what it was at the last
        decision, less one cut. Who has fallen, and who is healthy: :meth:`rl_lr.guard.Guard.judge`.

        Returns:
            Fallen and healthy runs, ``[runs]`` bool each; asked twice at the same step, nobody is either.
        """
        if self._judged == self.step:
            nobody = torch.zeros_like(self.offset, dtype=torch.bool)
            return nobody, nobody
        self._judged = self.step
        fallen, healthy = self._guard.judge(self.latest_loss, self._signals, self.over)
        self.rewinds = self.rewinds + fallen
        resigned = self._guard.resigned
        self.offset = torch.where(resigned, self._before_falls, self.offset)
        if fallen.any():
            first = fallen & (self._guard.returns == 1)
            self._before_falls = torch.where(first, self._decided_offset, self._before_falls)
            self._signals.forget(fallen)
            self.offset = torch.where(fallen, self._cut(self._decided_offset), self.offset)
            self._latest = torch.where(fallen, 0.0, self.latest_loss)
        return fallen, healthy

    def signals(self) -> Tensor:
        """Close the window; what the policy sees now, ``[runs, NUM_SIGNALS]`` float32."""
        t, (_, following) = self.step, self.timetable.window(self.step)
        log_now = math.log(self.now.schedule)
        place = Position(
            progress=self.timetable.progress(t),
            log_schedule=log_now,
            schedule_slope=math.log(self.timetable.value(following)) - log_now,
            in_warmup=self._warming_up,
            offset=self.offset / self.config.bound,
            last_action=self.last_action,
        )
        table = self._signals.read(place)
        self._guard.watch(self._signals)
        return table

    def act(self, action: Tensor) -> None:
        """Move the offsets by one decision's actions, ``[runs]``, clipped to [-1, 1].

        A non-finite action keeps the offset: a policy's fault must not end a run. Nor may a run that has
        just gone back go up again at once.
        """
        bound = self.config.bound
        action = action.detach().to(self.offset).nan_to_num(0.0, 0.0, 0.0).clamp(-1.0, 1.0)
        action = torch.where(self._guard.returns > 0, action.clamp_max(0.0), action)
        largest = self.config.warmup_step if self._warming_up else self.config.step
        self.offset = self._together(self.offset + largest * action).clamp(-bound, bound)
        self.last_action = action
        self._decided, self._decided_offset = self.step, self.offset

    def _answer(self, loss: Tensor | float, just_decided: bool) -> None:
        """Cut the rate of runs whose loss explodes, and give back what the last cut took off those where it was chance."""
        exploded, chance = self._guard.alarmed(self._by_run(loss))
        self.offset = torch.where(chance, self.offset + self._taken_off, self.offset)
        if just_decided:  # between the cut and now
            self._decided_offset = self.offset
        cut = torch.where(exploded, self._cut(self.offset), self.offset)
        self._taken_off, self.offset = self.offset - cut, cut
        self.guard_events += exploded

    def _together(self, offset: Tensor) -> Tensor:
        """Offsets of a network's tensors, none further than ``APART`` from their mean."""
        if self._tensors == 1:
            return offset
        each = offset.view(-1, self._tensors)
        mean = each.mean(dim=1, keepdim=True)
        return each.clamp(mean - APART, mean + APART).flatten()

    def _by_run(self, loss: Tensor | float) -> Tensor:
        return loss if isinstance(loss, Tensor) else torch.full_like(self.offset, loss)

    def _cut(self, offset: Tensor) -> Tensor:
        return (offset - self.config.guard_cut).clamp_min(-self.config.bound)

    def state_dict(self) -> dict[str, Any]:
        """The whole state as plain types and tensors; fits ``torch.load(weights_only=True)``."""
        self.catch_up()
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
            "judged": self._judged,
            "decided_offset": self._decided_offset.clone(),
            "taken_off": self._taken_off.clone(),
            "before_falls": self._before_falls.clone(),
            "latest": self.latest_loss.clone(),
            "guard": self._guard.state_dict(),
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
        self._backlog.take()  # of the run that is left
        self.step, self._decided, self._judged = state["step"], state["decided"], state["judged"]
        self.offset = state["offset"].to(device, copy=True)
        self.last_action = state["last_action"].to(device, copy=True)
        self.guard_events = state["guard_events"].to(device, copy=True)
        self.rewinds = state["rewinds"].to(device, copy=True)
        self._decided_offset = state["decided_offset"].to(device, copy=True)
        self._taken_off = state["taken_off"].to(device, copy=True)
        self._before_falls = state["before_falls"].to(device, copy=True)
        self._latest = state["latest"].to(device, copy=True)
        self._guard.load_state_dict(state["guard"])
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
        shift = math.log(before.value(self.step) / self.now.schedule)
        self.offset = (self.offset + shift).clamp(-self.config.bound, self.config.bound)
        self._decided_offset = (self._decided_offset + shift).clamp(-self.config.bound, self.config.bound)
