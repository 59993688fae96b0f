"""Timetable: when a run is decided, and what the base schedule is in between.

Where nobody knows how long a run will be (a time limit, data without length), the horizon is at any
time taken to be twice the steps made so far: the base schedule stays constant after the warm-up,
progress stays at one half, and decisions come at growing distances, as far apart as in a run of that
length. Such a run is never annealed; whoever knows its length should say so.
"""

import bisect
import math
from operator import index
from typing import NamedTuple

from rl_lr.config import ControlConfig
from rl_lr.schedules import BaseSchedule, base_schedule_of, check_schedule, decision_steps, warmup_steps

LEAST_HORIZON = 1000
"""Steps that a run of unknown length is taken to have at its beginning; its warm-up is that of such a run."""

MEASURED_PER_WINDOW = 6
"""About this many pairs of steps are measured in a long window, so that long runs cost no more."""

_SHORT_WINDOW = 5  # steps up to which every one is measured

_IN_A_ROW = 4  # consecutive steps measured in longer windows, which make one pair less

_AT_ONCE = 32  # steps looked up together: one at a time costs tenfold, the code being out of the cache

_ENDLESS = 10**12  # steps; decisions are laid out up to here


def whole_steps(total_steps: int | None) -> int | None:
    """A horizon as a plain number; None if nobody knows it.

    >>> import numpy as np
    >>> whole_steps(np.int64(7))
    7

    Raises:
        ValueError: if it is no whole number, or below 1.
    """
    try:
        steps = None if total_steps is None else index(total_steps)
    except TypeError:
        steps = 0
    if steps is not None and steps < 1:
        raise ValueError(
            f"total_steps is {total_steps!r}: give the number of optimizer steps of the run, a whole number of at least 1."
        )
    return steps


class Moment(NamedTuple):
    """What holds for one step."""

    schedule: float
    """s(t), in (0, 1]."""
    decides: bool
    """Whether the policy acts before it."""
    measured: bool
    """Whether its gradient and weights are wanted: in long windows of a few in a row, now and then."""


class Timetable:
    """The plan of a run: decisions, warm-up and base schedule.

    Attributes:
        total_steps: the horizon T, in optimizer steps, or None.
        schedule: name of the base schedule.
        decisions: steps before which the policy acts.
        warmup: steps of warm-up.

    Args:
        total_steps: the horizon T, in optimizer steps; None if unknown.
        schedule: name of the base schedule; without a horizon it is constant, whatever its name.
        config: constants of the law.
    """

    def __init__(self, total_steps: int | None, schedule: BaseSchedule, config: ControlConfig) -> None:
        total_steps = whole_steps(total_steps)
        check_schedule(schedule)
        self.total_steps, self.schedule = total_steps, schedule
        self.decisions = _endless(config) if total_steps is None else decision_steps(total_steps, config)
        self.warmup = warmup_steps(total_steps or LEAST_HORIZON, config)
        self._shape = base_schedule_of(
            total_steps or LEAST_HORIZON, schedule if total_steps else "constant", config
        )
        self._window = (0, 0)  # looked up last: most steps are in the window of the step before
        self._every = 1  # distance between the beginnings of what is measured in it
        self._moments: list[Moment] = []  # of some steps
        self._first = 0  # the first of them

    def at(self, step: int) -> Moment:
        """What holds for one step."""
        place = step - self._first
        if not 0 <= place < len(self._moments):
            self._first, place = step, 0
            self._moments = [self._moment(later) for later in range(step, step + _AT_ONCE)]
        return self._moments[place]

    def value(self, step: int) -> float:
        """s(t), in (0, 1]."""
        return self._shape(step)

    def progress(self, step: int) -> float:
        """t / T, in [0, 1]."""
        return step / (self.total_steps or max(LEAST_HORIZON, 2 * step))

    def is_over(self, step: int) -> bool:
        """Whether the horizon is reached."""
        return self.total_steps is not None and step >= self.total_steps

    def window(self, step: int) -> tuple[int, int]:
        """The decision that ``step`` follows, and the next one, or the horizon."""
        start, end = self._window
        if not start <= step < end:
            place = bisect.bisect_right(self.decisions, step)
            last = self.total_steps or _ENDLESS
            end = self.decisions[place] if place < len(self.decisions) else last
            self._window = self.decisions[place - 1], end
            self._every = _distance(end - self.decisions[place - 1])
        return self._window

    def _moment(self, step: int) -> Moment:
        start, _ = self.window(step)
        return Moment(self._shape(step), step == start, (step - start) % self._every < _IN_A_ROW)


def _distance(length: int) -> int:
    """Steps from the beginning of what is measured in a window to that of the next; in short ones all is measured."""
    if length <= _SHORT_WINDOW:
        return 1
    return max(2 * _IN_A_ROW, math.ceil((_IN_A_ROW - 1) * length / MEASURED_PER_WINDOW))


def _endless(config: ControlConfig) -> tuple[int, ...]:
    """Decisions as in a run of :data:`LEAST_HORIZON` steps up to its middle; then farther and farther apart.

    In its middle a run of T steps is decided every (1 - warm-up) · T / decisions steps.
    """
    grid = [step for step in decision_steps(LEAST_HORIZON, config) if step <= LEAST_HORIZON // 2]
    share = 2.0 * (1.0 - config.warmup_fraction) / config.decisions
    while grid[-1] < _ENDLESS:
        grid.append(grid[-1] + max(1, round(share * grid[-1])))
    return tuple(grid)
