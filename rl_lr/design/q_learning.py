"""Tabular Q-learning with experience replay, as MetaQNN designs networks (Baker et al., 1611.02167)."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from rl_lr.design.space import Design, Space, Taken, walk


@dataclass(frozen=True)
class QConfig:
    """Constants of the agent; the paper's, unless said otherwise."""

    step: float = 0.05
    """α: how far a value moves towards its target. The paper has 0.01 for 2700 children."""
    replayed: int = 100
    """Designs that are drawn from memory and learned from after each child."""
    initial: float = 0.25
    """Value of what was never tried; much above usual rewards, what is best is never repeated."""
    exploring: float = 0.25
    """Share of the search that is all random (the paper: 1500 of 2700 children)."""
    least: float = 0.1
    """ε at the end."""


class QLearning:
    """A table of values Q(s, a), one for every action in every state of a space.

    .. code-block:: text

        Q(s, a) ← (1 - α) Q(s, a) + α (r + max_a' Q(s', a'))

    r is the reward of the finished design, and 0 before the last action, after which there is no s'. With
    probability ε an action is random; ε is 1 for the first part of a search, then falls by tenths.

    The paper shares the reward out over the actions, since one step of learning carries it back by one action
    only. Here a design is learned backwards, from its last action to its first, which carries it all the way; and
    shares of a reward depend on how deep a network is, which a state should not have to tell.
    """

    def __init__(self, space: Space[Design], seed: int, config: QConfig | None = None) -> None:
        self._space, self._rng, self._config = space, np.random.default_rng(seed), config or QConfig()
        self.values: defaultdict[tuple[Hashable, int], float] = defaultdict(lambda: self._config.initial)
        self._memory: list[tuple[Taken, float]] = []
        self._seen: dict[Taken, tuple[Hashable, list[int]]] = {}

    def epsilon(self, done: float) -> float:
        """ε after a share of the search, 1 to ``least`` in steps of a tenth."""
        exploring, least = self._config.exploring, self._config.least
        if done < exploring:
            return 1.0
        steps = round(10 * (1.0 - least))
        level = min(steps, 1 + int((done - exploring) / (1.0 - exploring) * steps))
        return round(1.0 - level * (1.0 - least) / steps, 9)

    def ask(self, count: int, done: float) -> list[Taken]:
        """Walks that follow the highest values, or chance."""
        epsilon = self.epsilon(done)

        def choose(taken: Taken, allowed: list[int]) -> int:
            if self._rng.random() < epsilon:
                return allowed[int(self._rng.integers(len(allowed)))]
            state, _ = self._situation(taken)
            values = np.array([self._value(state, one) for one in allowed])
            best = np.flatnonzero(values == values.max())
            return allowed[int(self._rng.choice(best))]

        return [walk(self._space, choose) for _ in range(count)]

    def tell(self, taken: Sequence[Taken], rewards: Sequence[float]) -> None:
        """Remember each design, and learn from some that are remembered."""
        for one in zip(taken, rewards, strict=True):
            self._memory.append(one)
            self._learn(*one)
            for index in self._rng.integers(len(self._memory), size=self._config.replayed):
                self._learn(*self._memory[index])

    def _learn(self, taken: Taken, reward: float) -> None:
        """Backwards, so that one pass carries the reward from the last action to the first."""
        target = reward
        for index in reversed(range(len(taken))):
            state, allowed = self._situation(taken[:index])
            key = (state, taken[index])
            self.values[key] += self._config.step * (target - self.values[key])
            target = max(self._value(state, one) for one in allowed)

    def _situation(self, taken: Taken) -> tuple[Hashable, list[int]]:
        """State and legal actions, worked out once."""
        if taken not in self._seen:
            self._seen[taken] = self._space.state(taken), self._space.legal(taken)
        return self._seen[taken]

    def _value(self, state: Hashable, action: int) -> float:
        return self.values.get((state, action), self._config.initial)
