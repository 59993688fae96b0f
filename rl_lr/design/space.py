"""What a space of designs is: words that an agent says one after the other until a network is described."""

from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar

import numpy as np

Taken = tuple[int, ...]
"""The actions so far, as numbers of :attr:`Space.words`."""


class Design(Protocol):
    """A described network; its string form names it and can be read again."""

    def __str__(self) -> str:
        """As people write it."""
        ...

    def __hash__(self) -> int:
        """Equal designs are one network."""
        ...


D_co = TypeVar("D_co", bound=Design, covariant=True)


class Space(Protocol[D_co]):
    """Designs as sequences of actions; which are legal depends on those before."""

    @property
    def words(self) -> tuple[str, ...]:
        """All actions."""
        ...

    @property
    def longest(self) -> int:
        """Actions of the longest design."""
        ...

    def legal(self, taken: Taken) -> list[int]:
        """Actions that may come next; none if the design is complete."""
        ...

    def state(self, taken: Taken) -> Hashable:
        """What a table of values is kept by: as much of the design so far as decides what may come."""
        ...

    def design(self, taken: Taken) -> D_co:
        """The design that a complete sequence describes."""
        ...


def refuse(space: Space[Design], taken: Taken, action: int) -> str:
    """Why an action is illegal after others, in one sentence; "" if it is legal."""
    allowed = space.legal(taken)
    if action in allowed:
        return ""
    so_far = " ".join(space.words[one] for one in taken) or "the beginning"
    return (
        f"{space.words[action]} cannot come after {so_far}: take one of "
        f"{', '.join(space.words[one] for one in allowed)}, as the mask says."
    )


def walk(space: Space[Design], choose: Callable[[Taken, list[int]], int]) -> Taken:
    """A complete sequence, every action chosen among the legal ones.

    Args:
        space: of designs.
        choose: takes the actions so far and those that may come, and returns one.
    """
    taken: Taken = ()
    while allowed := space.legal(taken):
        taken = (*taken, choose(taken, allowed))
    return taken


def uniformly(rng: np.random.Generator) -> Callable[[Taken, list[int]], int]:
    """Chooses at random, each legal action as likely as any other."""

    def choose(_: Taken, allowed: list[int]) -> int:
        return allowed[int(rng.integers(len(allowed)))]

    return choose
