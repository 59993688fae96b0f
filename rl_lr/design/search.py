"""One loop for every agent: ask for designs, judge them, tell what they were worth."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from rl_lr.design.agent import Agent
from rl_lr.design.children import Child, Judge
from rl_lr.design.problems import D
from rl_lr.design.space import Taken

BATCH = 5
"""Designs that an agent is asked for at a time."""
_IDLE = 100  # batches without a new design after which an agent has settled


@dataclass(frozen=True)
class Found:
    """What a search has found so far."""

    children: tuple[Child, ...]
    """Designs in the order in which they were judged, no two the same."""

    def best(self, count: int = 1) -> list[Child]:
        """The children with the highest rewards, best first."""
        return sorted(self.children, key=lambda child: -child.reward)[:count]

    def best_so_far(self) -> list[float]:
        """The highest reward up to each child."""
        return list(accumulate((child.reward for child in self.children), max))


def search(
    judge: Judge[D],
    agent: Agent,
    children: int,
    report: Callable[[Found], None] = lambda found: None,
) -> Found:
    """Let an agent design until that many different children are judged.

    A design that was judged before is passed over: what an agent asks for again costs nothing, and teaches
    nothing. The search ends early once an agent asks for nothing new a hundred times.

    Args:
        judge: trains and judges designs; over a file of earlier results it only looks them up, so an
            interrupted search goes on by being made again, to the same end.
        agent: which searches.
        children: how many.
        report: is called after every child.

    Raises:
        ValueError: for less than one child.
    """
    if children < 1:
        raise ValueError(f"A search judges at least one child, got {children}: give --children 1 or more.")
    found: dict[str, Child] = {}
    untold: list[tuple[Taken, float]] = []
    idle, space = 0, judge.problem.space
    while len(found) < children and idle < _IDLE:
        idle += 1
        for taken in agent.ask(BATCH, len(found) / children):
            design = space.design(taken)
            if str(design) in found or len(found) == children:
                continue
            child = found[str(design)] = judge(design)
            untold.append((taken, child.reward))
            report(Found(tuple(found.values())))
            idle = 0
        if len(untold) >= BATCH:
            agent.tell(*zip(*untold, strict=True))
            untold.clear()
    return Found(tuple(found.values()))
