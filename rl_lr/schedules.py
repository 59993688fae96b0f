"""Base schedules s(t) and the grid of decisions.

The learning rate of a run is ``base_lr · s(t) · exp(o)``; this module owns the part that
needs no measurement: the shape s(t) and the steps at which the policy is asked.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

from rl_lr.config import ControlConfig

BaseSchedule = Literal["cosine", "linear", "wsd", "constant"]

WSD_DECAY = 0.2
"""Fraction of the run after warm-up in which warm-up–stable–decay (WSD) falls to zero."""


def _cosine(progress: float) -> float:
    return math.cos(0.5 * math.pi * progress) ** 2  # not ½ (1 + cos), which rounds to 0 near the end


def _linear(progress: float) -> float:
    return 1.0 - progress


def _wsd(progress: float) -> float:
    return min(1.0, (1.0 - progress) / WSD_DECAY)


def _constant(progress: float) -> float:
    return 1.0


_SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "wsd": _wsd,
    "constant": _constant,
}


def check_schedule(name: str) -> None:
    """Raise ``ValueError`` unless ``name`` is one of the base schedules."""
    if name not in get_args(BaseSchedule):
        known = ", ".join(get_args(BaseSchedule))
        raise ValueError(f"Unknown base schedule {name!r}: choose one of {known}.")


def warmup_steps(total_steps: int, config: ControlConfig) -> int:
    """Steps of exponential warm-up, at least one."""
    return max(1, round(config.warmup_fraction * total_steps))


def base_schedule(step: int, total_steps: int, name: str, config: ControlConfig) -> float:
    """The shape s(t) that the learning rate follows where the policy does nothing.

    .. code-block:: text

        s(t) = floor^(1 - t/t_w)              t < t_w   (exponential warm-up)
        s(t) = shape((t - t_w) / (T - t_w))   t ≥ t_w

    with t the index of the optimizer step (0 is the first), T the horizon, t_w the warm-up
    steps, ``floor`` the fraction that warm-up starts from. An exponential warm-up is a
    learning-rate range test (Smith, 1506.01186, §3.3) that costs nothing: it passes through
    every scale, and the policy may hold the rate where the signals turn.

    Args:
        step: t, clipped to [0, T - 1], so that the value stays positive past the horizon.
        total_steps: T, in optimizer steps.
        name: ``"cosine"``, ``"linear"``, ``"wsd"`` or ``"constant"``.
        config: where warm-up starts and how long it takes.

    Returns:
        s(t), in (0, 1].

    >>> config = ControlConfig()
    >>> [round(base_schedule(t, 1000, "cosine", config), 4) for t in (0, 25, 50, 525, 999)]
    [0.001, 0.0316, 1.0, 0.5, 0.0]
    """
    return base_schedule_of(total_steps, name, config)(step)


def base_schedule_of(total_steps: int, name: str, config: ControlConfig) -> Callable[[int], float]:
    """:func:`base_schedule` of one run, as a function of t: what does not depend on t is reckoned once."""
    return partial(_value, _SHAPES[name], warmup_steps(total_steps, config), total_steps, config.warmup_floor)


def _value(shape: Callable[[float], float], warmup: int, total_steps: int, floor: float, step: int) -> float:
    step = min(step, total_steps - 1)
    if step >= warmup:
        return shape((step - warmup) / (total_steps - warmup))
    return float(floor ** (1.0 - max(step, 0) / warmup))


def decision_steps(total_steps: int, config: ControlConfig) -> tuple[int, ...]:
    """Steps before which the policy acts: a fixed number, whatever the length of the run.

    ``config.warmup_decisions`` of them divide the warm-up evenly, ``config.decisions`` the
    rest; the first is step 0. Neighbours are at least one step apart, so a run of fewer
    steps than decisions is decided at each step.

    >>> grid = decision_steps(1000, ControlConfig())
    >>> len(grid), grid[:3], grid[11:14]
    (56, (0, 4, 8), (46, 50, 72))
    """
    count = min(config.decision_count, total_steps)
    if count == total_steps:
        return tuple(range(total_steps))
    warmup = warmup_steps(total_steps, config)
    early = [warmup * k / config.warmup_decisions for k in range(config.warmup_decisions)]
    rest = total_steps - warmup
    late = [warmup + rest * k / config.decisions for k in range(config.decisions)]
    grid = [0]
    for k, wanted in enumerate((early + late)[1:], start=1):
        earliest, latest = grid[-1] + 1, total_steps - (count - k)
        grid.append(min(max(round(wanted), earliest), latest))
    return tuple(grid)
