"""The global random generators: of Python, numpy and torch's CPU, taken together."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class States:
    """Where all of them stand."""

    python: tuple[Any, ...]
    """Of ``random``."""
    numpy: dict[str, Any]
    """Of ``numpy.random``."""
    torch: Tensor
    """Of torch's CPU generator."""

    @classmethod
    def now(cls) -> "States":
        """A copy."""
        return cls(random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state())

    def restore(self) -> None:
        """Put them back there."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)


def seed_all(seed: int) -> None:
    """Seed all of them: networks with dropout, and tasks of users, draw from them."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def kept() -> Iterator[None]:
    """Whatever happens inside, they stand afterwards where they stood."""
    before = States.now()
    try:
        yield
    finally:
        before.restore()


class Randomness:
    """States of the global generators of one's own, for a network that draws numbers in its steps.

    Args:
        seed: what they begin from.
    """

    def __init__(self, seed: int) -> None:
        with kept():
            seed_all(seed)
            self._states = States.now()

    @contextmanager
    def own(self) -> Iterator[None]:
        """They in the place of the others for a while, which do not notice."""
        with kept():
            self._states.restore()
            yield
            self._states = States.now()
