"""One loop for every agent: ask for designs, judge them, tell what they were worth."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from rl_lr.design.agent import Agent
from rl_lr.design.children import Child, Judge
from rl_lr.design.problems import D

BATCH = 5
"""Designs that an agent is asked for at a time."""
_IDLE = 40  # batches without a new design after which an agent has settled


@dataclass(frozen=True)
class Found:
    """What a search has found so far."""

    children: tuple[Child, ...]
    """Designs in the order in which they were first asked for, no two the same."""

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

    A design that is asked for again costs nothing and counts once, but the agent is told of it again. The
    search ends early once an agent asks for nothing new in 40 batches.

    Args:
        judge: trains and judges designs; over a file of earlier results it only looks them up, so an
            interrupted search goes on by being made again, to the same end.
        agent: which searches.
        children: how many.
        report: is called after every new child.

    Raises:
        ValueError: for less than one child.
    """
    if children < 1:
        raise ValueError(f"A search judges at least one child, got {children}: give --children 1 or more.")
    found: dict[str, Child] = {}
    idle, space = 0, judge.problem.space
    while len(found) < children and idle < _IDLE:
        taken = agent.ask(BATCH, len(found) / children)
        before, judged = len(found), []
        for one in taken:
            child = judge(space.design(one))
            judged.append(child)
            if child.design not in found:
                found[child.design] = child
                report(Found(tuple(found.values())))
            if len(found) == children:
                break
        agent.tell(taken[: len(judged)], [child.reward for child in judged])
        idle = 0 if len(found) > before else idle + 1
    return Found(tuple(found.values()))
