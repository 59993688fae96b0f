"""Problems and a judge that are small enough for tests."""

from pathlib import Path

from rl_lr.design.architecture import Architecture, LayerSpace
from rl_lr.design.children import Judge, Training
from rl_lr.design.problems import Digits

SMALL = LayerSpace(inputs=(1, 8), channels=(2,), sizes=(3,), pools=(2,), widths=(4, 8), depth=2)
"""A dozen networks."""


def small_judge(path: Path | None = None, steps: int = 4) -> Judge[Architecture]:
    """Trains for a moment."""
    return Judge(Digits(SMALL, rows=1500, copies=1), Training(steps=steps, seeds=(0,)), path)
