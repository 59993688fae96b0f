"""Workers that are this process itself."""

from collections.abc import Callable, Sequence

import torch

from rl_lr.episodes import Plan
from rl_lr.workers.protocol import OrderT, ResultT


class Local:
    """Plays one order after the other, here."""

    def start(self, plan: Plan) -> None:
        """Keep the plan."""
        self._plan = plan

    def map(self, function: Callable[[Plan, OrderT], ResultT], orders: Sequence[OrderT]) -> list[ResultT]:
        """``function(plan, order)`` for every order, on one intra-op thread as in any worker."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return [function(self._plan, order) for order in orders]
        finally:
            torch.set_num_threads(threads)

    def close(self) -> None:
        """Nothing is held open."""
