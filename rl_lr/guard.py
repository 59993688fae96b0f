"""The guard: which runs explode, which have fallen and must go back, and which are healthy.

No policy takes part. A single loss raises the alarm at once, and the rate is cut; if the next loss is not up there,
it was chance, because the weights that it was taken at knew nothing of the cut yet, which is then taken back. Whether
a cut was enough is told at the next decision, by the mean loss of the window and by its last losses. All is in units
of the loss's own scale, and batched over runs.
"""

import math
from collections import deque
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

_FEW_LOSSES = 5  # mean and spread of fewer are chance; of the last five, all but one must be up there too

_MOST_RETURNS = 5  # in a row: if the loss is still up there then, it is not the rate's doing

_REGROWTH = 1.5  # a loss must grow by this factor after a cut before the guard cuts again

_SILENT = torch.finfo(torch.float64).max  # the alarm before a level is known: only infinity exceeds it


class Guard:
    """Watches the losses of ``runs`` runs.

    Attributes:
        returns: ``[runs]`` int64, times in a row that a run has fallen.
        resigned: ``[runs]`` bool, runs whose loss the latest judgement took as it is after so many returns.

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
        self._suspects = torch.zeros(runs, dtype=torch.bool, device=device)  # by the last loss
        self._doubtful = False  # whether there are any, as far as the host knows
        self._latest: deque[Tensor | float] = deque([-math.inf] * _FEW_LOSSES, _FEW_LOSSES)
        self.returns = torch.zeros(runs, dtype=torch.int64, device=device)
        self.resigned = self._suspects

    def feel(self, loss: Tensor | float) -> bool:
        """Take in the loss of a step, ``[runs]`` or one for all; False if :meth:`alarmed` has to be asked about it.

        It is told cheaply whether all is well: on accelerators looking would cost a synchronisation.
        """
        self._latest.append(loss)
        if self._doubtful:
            return False
        if isinstance(loss, float):
            if self._read is not self._alarm:
                self._read, self._least_alarm = self._alarm, self._alarm.min().item()
            return -math.inf < loss <= self._least_alarm
        return self._on_cpu and bool((loss.abs() <= self._alarm).all())

    def feel_all(self, losses: Tensor) -> bool:
        """Take in the losses of several steps, ``[steps, runs]``, if all is well; if not, False: feel them one by one.

        Looking costs one synchronisation.
        """
        if not bool((losses.abs() <= self._alarm).all() & ~self._suspects.any()):
            return False
        self._latest.extend(losses[-_FEW_LOSSES:].unbind(dim=0))
        return True

    def alarmed(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """Runs whose loss raises the alarm, and runs whose loss before did so by chance, ``[runs]`` bool each.

        A loss must grow on to raise the alarm again.
        """
        exploded = loss.nan_to_num(math.inf, math.inf, math.inf) > self._alarm
        chance = self._suspects & (loss <= self._threshold(self._ratio))
        self._alarm = torch.where(exploded & loss.isfinite(), _REGROWTH * loss.abs(), self._alarm)
        self._suspects = exploded
        self._doubtful = self._on_cpu and bool(exploded.any())
        return exploded, chance

    def judge(self, latest: Tensor, signals: Signals, over: bool) -> tuple[Tensor, Tensor]:
        """Runs that have fallen, and runs that are surely healthy, ``[runs]`` bool each, before a window is read.

        A run that is neither has just begun to fall, or not: the next window tells. One that has fallen five
        times in a row begins anew where it is, at the level that it has now.

        Args:
            latest: loss of the last step, ``[runs]``.
            signals: of the window under way.
            over: whether the horizon is reached, and no next window could tell.
        """
        mean, high, few = signals.window_loss, self._high(signals), self._last_few()
        fallen = ~latest.isfinite() | ((mean > high) & (few.kthvalue(2, dim=1).values > high))
        if over:
            fallen |= latest > self._threshold(self._ratio)
        fallen &= math.isfinite(self._ratio)
        self.resigned = anew = fallen & (self.returns == _MOST_RETURNS) & mean.isfinite()
        self._level = torch.where(anew, mean, self._level)
        self._recent = torch.where(anew[:, None], mean[:, None], self._recent)
        self._scale = torch.where(anew, torch.maximum(self._scale, mean.abs()), self._scale)
        fallen &= self.returns < _MOST_RETURNS
        # The spread of a window that a fall begins in would hide it from the next.
        falling = fallen | ((latest > high) & ~anew)
        self._remember(signals, ~falling & (signals.window_length >= _FEW_LOSSES))
        self.returns = torch.where(fallen, self.returns + 1, 0)
        self._alarm = torch.where(fallen, _SILENT, self._alarm)  # until watch() sets it again
        self._suspects = self._suspects & ~fallen  # the next loss is that of other weights
        if fallen.any():
            self._forget(fallen)
        least = few.where(few > -math.inf, math.inf).amin(dim=1)
        high = torch.where(self._level.isnan(), least + least.abs(), high)  # prudent while it is unknown
        return fallen, ~(fallen | (latest > high))

    def watch(self, signals: Signals) -> None:
        """After a window was read: set the alarm; after a cut, not before the loss came down again."""
        if self._level.isnan().any():
            self._set_level(signals)
        threshold = self._threshold(self._ratio)
        calm = (self._alarm == _SILENT) | (signals.last_loss <= threshold)
        self._alarm = torch.where(calm & threshold.isfinite(), threshold, self._alarm)

    def _set_level(self, signals: Signals) -> None:
        """Where the loss began: mean and spread of the first window; if that had few losses, of the first five.

        The middle one of five is no outlier, and from the second to the fourth it is about a standard deviation. If
        they rose one after the other, the run was exploding, and only the first tells where it began. A loss whose
        terms begin at zero, and count from some step on, begins there.
        """
        few, begun = self._last_few(), (signals.first_loss != 0.0) | (signals.first_spread != 0.0)
        ranked = few.sort(dim=1).values
        rising = (few.diff(dim=1) > 0.0).all(dim=1)
        middle = torch.where(rising, few[:, 0], ranked[:, _FEW_LOSSES // 2])
        told = few.isfinite().all(dim=1) & (begun | (few != 0.0).all(dim=1))
        middle = torch.where(told, middle, math.nan)
        spread = torch.where(rising, 0.0, ranked[:, -2] - ranked[:, 1])
        many = (signals.first_length >= _FEW_LOSSES) & begun
        level = torch.where(many, signals.first_loss, middle)
        spread = torch.where(many, signals.first_spread, spread)
        scale = torch.maximum(level.abs(), _SPREADS * spread)
        unknown = self._level.isnan()
        self._scale = torch.where(unknown, scale, self._scale)
        self._level = torch.where(unknown, level, self._level)
        before = (unknown & ~begun)[:, None]
        self._lowest = torch.where(before[:, 0], math.nan, self._lowest)
        self._recent = torch.where(before, math.nan, self._recent)
        self._spreads = torch.where(before, math.nan, self._spreads)

    def _last_few(self) -> Tensor:
        """The last losses, ``[runs, 5]``: infinite for one that is none, minus infinity where there was none yet."""
        return torch.stack(self._rows(), dim=1).nan_to_num(math.inf, math.inf, -math.inf)

    def _rows(self) -> list[Tensor]:
        """The last losses, ``[runs]`` each."""
        return [one if isinstance(one, Tensor) else torch.full_like(self._level, one) for one in self._latest]

    def _forget(self, rows: Tensor) -> None:
        """What the last losses of some runs were, ``[runs]`` bool."""
        kept = torch.where(rows[:, None], -math.inf, self._last_few())
        self._latest.extend(kept.unbind(dim=1))

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
            "suspects": self._suspects.clone(),
            "latest": torch.stack(self._rows(), dim=1),
            "returns": self.returns.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        states = {name: value.to(self._level.device, copy=True) for name, value in state.items()}
        self._level, self._scale, self._lowest = states["level"], states["scale"], states["lowest"]
        self._recent, self._spreads = states["recent"], states["spreads"]
        self._alarm, self.returns = states["alarm"], states["returns"]
        self._suspects = states["suspects"]
        self._doubtful = self._on_cpu and bool(self._suspects.any())
        self._latest.extend(states["latest"].unbind(dim=1))


def _pushed(kept: Tensor, newest: Tensor, rows: Tensor) -> Tensor:
    """``kept [runs, n]`` with a newest value in front and the oldest gone, in some rows, ``[runs]`` bool."""
    return torch.where(rows[:, None], torch.cat((newest[:, None], kept[:, :-1]), dim=1), kept)
