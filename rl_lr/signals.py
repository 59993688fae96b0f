"""Signals: what happened between two decisions, as dimensionless numbers.

All state is batched over runs, ``[runs, ...]``: the engine feeds thousands of runs, a callback
feeds one, and both get the same numbers from the same code. Vectors (gradient, weights) are
*sketches*, a fixed strided sample of coordinates (:mod:`rl_lr.sketches`), so that cost and
memory do not grow with the network. No signal has a unit: multiplying the loss, reparametrising
the weights by a constant, or changing the base rate together with the gradient's scale leaves
what the policy sees (nearly) as it was, and none is the learning rate itself.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_lr.readings import of_geometry, of_losses
from rl_lr.windows import History, Window, copied

SCHEMA = "rl-lr-signals-1"
"""Version of the list below; a policy file of another schema is refused."""

_FAST = (
    "progress",  # t / T, in [-1, 1]
    "log_schedule",  # log s(t), over 7 nats
    "schedule_slope",  # log s at the next decision minus now, in nats
    "in_warmup",  # 1 inside the warm-up
    "offset",  # o / B
    "last_action",  # a of the previous decision
    "improvement_1",  # drop of log loss over 1 window
    "improvement_5",  # drop of log loss over 5 windows
    "improvement_all",  # drop of log loss since the first window
    "above_best",  # log loss above the best window
    "loss_trend",  # drop over 1 window in units of its own standard error (of 16 steps, if there were more)
    "loss_noise",  # log of the loss's coefficient of variation in the window
    "hypergradient",  # -cos(g_t, u_{t-1}): > 0 still descending, < 0 past the bottom
    "own_descent",  # -cos(g_{t-1}, u_{t-1}): how far updates follow their own gradient
    "curvature",  # 1 - (g_t·u)/(g_{t-1}·u): 0 flat, 1 the exact minimum, 2 the edge of stability
    "gradient_memory",  # cos(g_t, g_{t-1})
    "straightness",  # |w_end - w_start| / path length
    "window_hypergradient",  # -cos(mean gradient, previous window's displacement)
    "window_momentum",  # cos(displacement, previous window's displacement)
    "gradient_snr",  # log |Σg|² / (n Σ|g|²)
    "gradient_change_1",  # change of log |g| over 1 window
    "gradient_change_all",  # change of log |g| since the first window
    "relative_update",  # log |u| / |w|
)
_AVERAGED = (
    "loss_trend",
    "hypergradient",
    "own_descent",
    "curvature",
    "gradient_memory",
    "straightness",
    "window_hypergradient",
    "window_momentum",
    "gradient_snr",
)
SIGNALS = _FAST + tuple(f"{name}_slow" for name in _AVERAGED)
"""What the policy sees, in this order; ``_slow`` is an average over about four windows, because one
window of a short run is a noisy sample."""
NUM_SIGNALS = len(SIGNALS)
CLIP = 5.0
"""Every signal is clipped to ±CLIP."""

_SLOWNESS = 0.75  # weight of the past in the averages


@dataclass(frozen=True)
class Position:
    """Where in its run a decision stands; known without measuring. Scalars, or ``[runs]``."""

    progress: float
    """t / T, in [0, 1]."""
    log_schedule: float
    """log s(t)."""
    schedule_slope: float
    """log s at the next decision, minus ``log_schedule``."""
    in_warmup: bool
    """Whether t is inside the warm-up."""
    offset: Tensor
    """``[runs]``: o / B."""
    last_action: Tensor
    """``[runs]``: the previous decision's action, in [-1, 1]."""


class Signals:
    """Gathers steps into windows and reads each window as ``[runs, NUM_SIGNALS]`` float32.

    Methods: :meth:`record` once per optimizer step, :meth:`read` once per decision,
    :meth:`state_dict`, :meth:`load_state_dict`.

    Args:
        runs: rows of every tensor.
        width: coordinates in a sketch.
        device: where the sums live; recording never reads a value back to the host.
    """

    def __init__(self, runs: int, width: int, device: torch.device | str = "cpu") -> None:
        self.runs, self.width, self.device = runs, width, torch.device(device)
        self._window = Window.empty(runs, width, self.device)
        self._history = History.empty(runs, width, len(_AVERAGED), self.device)
        self._before: tuple[Tensor, Tensor] | None = None  # g and w of the step before
        self._start: Tensor | None = None  # weights at the start of the window
        self._latest: Tensor | None = None  # last weights seen
        self._span = 0  # updates between start and latest, measured or not
        self._unseen = 0  # updates since latest

    @property
    def first_loss(self) -> Tensor:
        """Mean loss of the first window, ``[runs]``; NaN before it was read."""
        return self._history.first_loss

    @property
    def first_spread(self) -> Tensor:
        """Standard deviation of the losses of the first window, ``[runs]``; NaN before it was read."""
        return self._history.first_spread

    @property
    def first_length(self) -> Tensor:
        """Losses in the first window, ``[runs]`` float64; NaN before it was read."""
        return self._history.first_length

    @property
    def last_loss(self) -> Tensor:
        """Mean loss of the window read last, ``[runs]``; NaN before the first."""
        return self._history.losses[:, 0]

    @property
    def window_loss(self) -> Tensor:
        """Mean loss of the window under way, ``[runs]``; NaN if there was none."""
        self._window.fold()
        return self._window.loss[:, 1] / self._window.loss[:, 0]

    @property
    def window_spread(self) -> Tensor:
        """Standard deviation of the losses of the window under way, ``[runs]``; NaN if there was none."""
        self._window.fold()
        count, total, squares = self._window.loss.unbind(1)
        return (squares / count - (total / count) ** 2).clamp_min(0.0).sqrt()

    @property
    def window_length(self) -> Tensor:
        """Losses in the window under way, ``[runs]`` float64."""
        self._window.fold()
        return self._window.loss[:, 0]

    def forget(self, rows: Tensor) -> None:
        """Drop what the window under way holds of some runs, ``[runs]`` bool, as if it had not been."""
        self._window.forget(rows)
        if self._before is not None:
            grad, weights = self._before
            self._before = torch.where(rows[:, None], math.nan, grad), weights  # no pair begins with it
        if self._start is not None and self._latest is not None:
            self._latest = torch.where(rows[:, None], self._start, self._latest)

    def record(self, loss: Tensor | float, grad: Tensor | None, weights: Tensor | None) -> None:
        """Add one optimizer step to the current window.

        Args:
            loss: ``[runs]``, the loss that was differentiated, or a number that all runs share; non-finite
                values are left out.
            grad: ``[runs, width]``, sketch of its gradient, or None if this step is not measured.
            weights: ``[runs, width]``, sketch of the weights *before* the step, or None.
        """
        self._window.add_loss(loss.to(self.device, torch.float64) if isinstance(loss, Tensor) else loss)
        if grad is None or weights is None:
            self._before = None
            self._unseen += 1
            return
        if self._start is None:
            self._start, self._unseen = weights, 0
        self._span, self._unseen = self._span + self._unseen, 1
        if self._before is not None:
            grad_before, weights_before = self._before
            self._window.add_pair(grad, weights - weights_before, grad_before)
        self._before, self._latest = (grad, weights), weights

    def read(self, position: Position) -> Tensor:
        """Close the window and return its signals, ``[runs, NUM_SIGNALS]`` float32 in ±CLIP.

        Quantities with nothing to measure (the first decision, an empty window) read 0.
        """
        columns = self._place(position)
        columns |= of_losses(self._window, self._history)
        columns |= of_geometry(self._window, self._history, self._start, self._latest, self._span)
        table = torch.stack([self._column(columns[name]) for name in _FAST], dim=1)
        now = table[:, [_FAST.index(name) for name in _AVERAGED]]
        table = torch.cat((table, self._average(now)), dim=1)
        self._window = Window.empty(self.runs, self.width, self.device)
        self._start, self._span = self._latest, 0
        return table.nan_to_num(0.0, CLIP, -CLIP).clamp(-CLIP, CLIP).float()

    def _column(self, value: Tensor | float) -> Tensor:
        return torch.as_tensor(value, dtype=torch.float64, device=self.device).expand(self.runs)

    def _average(self, now: Tensor) -> Tensor:
        """Move the running averages towards ``now``; what is not finite leaves them as they are."""
        slow = self._history.slow
        now = now.where(now.isfinite(), slow).clamp(-CLIP, CLIP)
        slow = now.where(slow.isnan(), _SLOWNESS * slow + (1.0 - _SLOWNESS) * now)
        self._history.slow = slow
        return slow

    def _place(self, position: Position) -> dict[str, Tensor | float]:
        return {
            "progress": 2.0 * position.progress - 1.0,
            "log_schedule": position.log_schedule / 7.0,
            "schedule_slope": position.schedule_slope,
            "in_warmup": float(position.in_warmup),
            "offset": position.offset,
            "last_action": position.last_action,
        }

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything that the next signals depend on, as plain types and tensors."""
        return {
            "window": copied(vars(self._window), self.device),
            "history": copied(vars(self._history), self.device),
            "before": None if self._before is None else list(self._before),
            "start": self._start,
            "latest": self._latest,
            "span": self._span,
            "unseen": self._unseen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`, on this object's device."""

        def here(value: Tensor) -> Tensor:
            return value.to(self.device, copy=True)

        self._window = Window(**copied(state["window"], self.device))
        self._history = History(**copied(state["history"], self.device))
        before, start, latest = state["before"], state["start"], state["latest"]
        self._before = None if before is None else (here(before[0]), here(before[1]))
        self._start = None if start is None else here(start)
        self._latest = None if latest is None else here(latest)
        self._span, self._unseen = state["span"], state["unseen"]
