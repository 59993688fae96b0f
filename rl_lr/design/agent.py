"""What searches a space: something that is asked for designs and told what they were worth."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from rl_lr.design.space import Design, Space, Taken, uniformly, walk


class Agent(Protocol):
    """Deterministic: asked and told the same, it asks for the same."""

    def ask(self, count: int, done: float) -> list[Taken]:
        """Designs that it wants judged.

        Args:
            count: how many.
            done: share of the search that is done, 0 to 1.
        """
        ...

    def tell(self, taken: Sequence[Taken], rewards: Sequence[float]) -> None:
        """What those were worth, each from 0 to 1."""
        ...


class RandomSearch:
    """Each legal action is as likely as any other; learns nothing."""

    def __init__(self, space: Space[Design], seed: int) -> None:
        self._space, self._choose = space, uniformly(np.random.default_rng(seed))

    def ask(self, count: int, done: float) -> list[Taken]:
        """Random walks."""
        return [walk(self._space, self._choose) for _ in range(count)]

    def tell(self, taken: Sequence[Taken], rewards: Sequence[float]) -> None:
        """Nothing."""
