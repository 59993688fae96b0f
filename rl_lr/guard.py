"""The guard: which runs explode, which have fallen and must go back, and which are healthy.

No policy takes part. A single loss raises the alarm at once, and the rate is cut; whether that was
enough is told at the next decision, by the mean loss of the window. All is in units of the loss's own
scale, and batched over runs.
"""

import math
from typing import Any

import torch
from torch import Tensor

from rl_lr.signals import Signals

FALLEN = 1.0
"""A run has fallen if the mean loss of a window exceeds its starting level by this many times its scale:
less than the guard's ratio, because a mean is steadier than one loss."""

LOST = 0.5
"""A run has also fallen if it lost this share of all that it had gained within a few windows: far from its
starting level, a network that was thrown where it cannot learn shows in nothing else."""

_SPREADS = 4.0  # the scale is at least as many standard deviations: a loss may start anywhere near zero

_GAINED = 0.25  # of its scale is what it must have gained before

_RECENT = 3  # windows within which it must have lost it: what rises slowly has other reasons

_FEW_LOSSES = 5  # mean and spread of fewer are chance

_MOST_RETURNS = 5  # in a row: if the loss is still up there then, it is not the rate's doing

_REGROWTH = 1.5  # a loss must grow by this factor after a cut before the guard cuts again

_SILENT = torch.finfo(torch.float64).max  # the alarm before a level is known: only infinity exceeds it


class Guard:
    """Watches the losses of ``runs`` runs.

    Attributes:
        returns: ``[runs]`` int64, times in a row that a run has fallen.

    Args:
        runs: how many.
        ratio: the alarm is raised by a loss above the starting level by this many times its scale; infinite for
            no guard.
        device: where losses live.
    """

    def __init__(self, runs: int, ratio: float, device: torch.device | str) -> None:
        self._ratio, self._on_cpu = ratio, torch.device(device).type == "cpu"
        unknown = torch.full((runs,), math.nan, dtype=torch.float64, device=device)
        self._level = unknown  # where the loss began
        self._scale = unknown  # how large it was
        self._lowest = unknown  # mean loss of a window of enough losses
        self._recent = unknown[:, None].repeat(1, _RECENT)  # means of the last such windows
        self._spreads = self._recent  # their standard deviations
        self._alarm = torch.full_like(unknown, _SILENT)
        self._read, self._least_alarm = self._alarm, _SILENT  # an alarm, and the least of it as a number
        self.returns = torch.zeros(runs, dtype=torch.int64, device=device)

    def plainly_healthy(self, loss: Tensor | float) -> bool:
        """Whether no loss raises the alarm, told cheaply: on accelerators looking would cost a synchronisation."""
        if isinstance(loss, float):
            if self._read is not self._alarm:
                self._read, self._least_alarm = self._alarm, self._alarm.min().item()
            return -math.inf < loss <= self._least_alarm
        if not self._on_cpu:
            return False
        return bool((loss.abs() <= self._alarm).all())

    def exploded(self, loss: Tensor) -> Tensor:
        """Runs whose loss raises the alarm, ``[runs]`` bool; it must grow on to do so again."""
        exploded = loss.nan_to_num(math.inf, math.inf, math.inf) > self._alarm
        self._alarm = torch.where(exploded & loss.isfinite(), _REGROWTH * loss.abs(), self._alarm)
        return exploded

    def judge(self, latest: Tensor, signals: Signals, over: bool) -> tuple[Tensor, Tensor]:
        """Runs that have fallen, and runs that are surely healthy, ``[runs]`` bool each, before a window is read.

        A run that is neither has just begun to fall, or not: the next window tells. One that has fallen five
        times in a row begins anew where it is, at the level that it has now.

        Args:
            latest: loss of the last step, ``[runs]``.
            signals: of the window under way.
            over: whether the horizon is reached, and no next window could tell.
        """
        mean, high = signals.window_loss, self._high(signals)
        fallen = ~latest.isfinite() | (mean > high)
        if over:
            fallen |= latest > self._threshold(self._ratio)
        fallen &= math.isfinite(self._ratio)
        anew = fallen & (self.returns == _MOST_RETURNS) & mean.isfinite()
        self._level = torch.where(anew, mean, self._level)
        self._recent = torch.where(anew[:, None], mean[:, None], self._recent)
        self._scale = torch.where(anew, torch.maximum(self._scale, mean.abs()), self._scale)
        fallen &= self.returns < _MOST_RETURNS
        self._remember(signals, ~fallen & (signals.window_length >= _FEW_LOSSES))
        self.returns = torch.where(fallen, self.returns + 1, 0)
        self._alarm = torch.where(fallen, _SILENT, self._alarm)  # until watch() sets it again
        return fallen, ~(fallen | (latest > high))

    def watch(self, signals: Signals) -> None:
        """After a window was read: set the alarm; after a cut, not before the loss came down again."""
        first, spread = signals.first_loss, signals.first_spread
        scale = torch.maximum(first.abs(), _SPREADS * spread)
        self._scale = torch.where(self._level.isnan(), scale, self._scale)
        self._level = torch.where(self._level.isnan(), first, self._level)
        threshold = self._threshold(self._ratio)
        calm = (self._alarm == _SILENT) | (signals.last_loss <= threshold)
        self._alarm = torch.where(calm & threshold.isfinite(), threshold, self._alarm)

    def _threshold(self, ratio: float) -> Tensor:
        """A loss above where the run began, ``[runs]``; NaN before the first window was read."""
        return self._level + ratio * self._scale

    def _remember(self, signals: Signals, rows: Tensor) -> None:
        """Keep mean and spread of the window under way of some runs, ``[runs]`` bool."""
        mean, spread = signals.window_loss, signals.window_spread
        self._lowest = torch.where(rows, torch.fmin(self._lowest, mean), self._lowest)
        self._recent = _pushed(self._recent, mean, rows)
        self._spreads = _pushed(self._spreads, spread, rows)

    def _high(self, signals: Signals) -> Tensor:
        """A window's mean loss above which a run has fallen, ``[runs]``; NaN before the first window was read.

        .. code-block:: text

            min(ℓ₀ + FALLEN · scale,  ℓ' + max(LOST · (ℓ₀ - ℓ*), 4 σ))

        with ℓ₀ the mean of the first window, ℓ* the lowest mean, ℓ' the lowest of the last three, σ the largest of
        their standard deviations; the second once ℓ* is a quarter of the scale below ℓ₀. Windows of less than five
        losses have no part in it, as their mean and spread are chance.
        """
        gained = self._level - self._lowest
        spread = self._spreads.nan_to_num(0.0).amax(dim=1)
        allowed = torch.maximum(LOST * gained, _SPREADS * spread)
        lowest = self._recent.nan_to_num(math.inf).amin(dim=1)
        telling = (gained > _GAINED * self._scale) & (signals.window_length >= _FEW_LOSSES)
        from_below = torch.where(telling, lowest + allowed, math.inf)
        return torch.minimum(self._threshold(FALLEN), from_below)

    def state_dict(self) -> dict[str, Any]:
        """The whole state, as tensors."""
        return {
            "level": self._level.clone(),
            "scale": self._scale.clone(),
            "lowest": self._lowest.clone(),
            "recent": self._recent.clone(),
            "spreads": self._spreads.clone(),
            "alarm": self._alarm.clone(),
            "returns": self.returns.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        states = {name: value.to(self._level.device, copy=True) for name, value in state.items()}
        self._level, self._scale, self._lowest = states["level"], states["scale"], states["lowest"]
        self._recent, self._spreads = states["recent"], states["spreads"]
        self._alarm, self.returns = states["alarm"], states["returns"]


def _pushed(kept: Tensor, newest: Tensor, rows: Tensor) -> Tensor:
    """``kept [runs, n]`` with a newest value in front and the oldest gone, in some rows, ``[runs]`` bool."""
    return torch.where(rows[:, None], torch.cat((newest[:, None], kept[:, :-1]), dim=1), kept)
