"""Means and their intervals."""

from collections.abc import Sequence

import numpy as np


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t; infinite for a single value.

    >>> interval([1.0, 2.0, 3.0])
    (2.0, 2.48)
    """
    from scipy import stats

    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, float("inf")
    return mean, float(stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
