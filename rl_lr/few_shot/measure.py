"""Accuracies of arms on the same test episodes, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rl_lr.intervals import interval

REFERENCE = "meta-learner"
"""The arm that others are compared with."""


@dataclass(frozen=True)
class Interval:
    """A mean and half the width of its 95 % interval, over episodes."""

    mean: float
    """In the unit of the values."""
    half: float
    """By Student's t."""

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """Of independent values.

        >>> Interval.of([0.5, 0.7])
        Interval(mean=0.6, half=1.27)
        """
        return cls(*interval(values))

    @property
    def low(self) -> float:
        """Lower end."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end."""
        return self.mean + self.half


@dataclass(frozen=True)
class Row:
    """What an arm reached."""

    arm: str
    """Its name."""
    shots: int
    """Labelled images of each class."""
    glyphs: Interval
    """Accuracy on episodes of the test classes."""
    digits: Interval | None
    """Accuracy on episodes of the digits; None if they are not as many classes as an episode has."""
    ahead: Interval
    """Accuracy of the meta-learner minus this one's, episode by episode of the test classes."""


@dataclass(frozen=True)
class Demand:
    """One line of what was to be reached."""

    rival: str
    """Arm that the meta-learner must be above."""
    shots: int
    """Labelled images of each class."""
    ours: Interval
    """Accuracy of the meta-learner."""
    theirs: Interval
    """Of the rival."""

    @property
    def reached(self) -> bool:
        """Whether the intervals are apart, ours above."""
        return self.ours.low > self.theirs.high


def rows(
    shots: int, tests: Mapping[str, Sequence[float]], digits: Mapping[str, Sequence[float]]
) -> list[Row]:
    """A row for each arm.

    Args:
        shots: labelled images of each class.
        tests: accuracy on each test episode, by arm.
        digits: the same on episodes of the digits; may be empty.
    """
    ours = np.asarray(tests[REFERENCE])
    return [
        Row(
            arm,
            shots,
            Interval.of(own),
            Interval.of(digits[arm]) if arm in digits else None,
            Interval.of((ours - np.asarray(own)).tolist()),
        )
        for arm, own in tests.items()
    ]


def demands(table: Sequence[Row], rivals: Sequence[str]) -> list[Demand]:
    """That the meta-learner is above each of these arms, at each number of shots."""
    ours = {row.shots: row.glyphs for row in table if row.arm == REFERENCE}
    return [Demand(row.arm, row.shots, ours[row.shots], row.glyphs) for row in table if row.arm in rivals]
