"""What a training asks of its agent."""

from collections.abc import Sequence
from typing import Any, Protocol

from rl_lr.agents.curves import Curves, Figures
from rl_lr.episodes import Episode, Order
from rl_lr.policy import Policy


class Agent(Protocol):
    """Learns from iteration to iteration. The same episodes make the same agent, bit for bit."""

    @property
    def curves(self) -> Curves:
        """Where its figures are written."""
        ...

    def orders(self, iteration: int) -> list[Order]:
        """The episodes that iteration number ``iteration`` wants to learn from."""
        ...

    def update(self, episodes: Sequence[Episode], iteration: int) -> Figures:
        """Learn from the episodes of an iteration, in their order."""
        ...

    def policy(self, provenance: dict[str, Any], name: str) -> Policy:
        """What has been learned so far."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that the coming iterations depend on, as plain types and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        ...
