"""What the learner asks of workers."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from rl_lr.episodes import Plan

OrderT = TypeVar("OrderT")
ResultT = TypeVar("ResultT")


class WorkerError(RuntimeError):
    """Workers keep dying; the message says what may be done."""


class Workers(Protocol):
    """Carries out orders of a plan: pure functions, so that any worker may, and again after a crash."""

    def start(self, plan: Plan) -> None:
        """Get ready; called once, before anything else.

        Raises:
            ValueError: if the plan's tasks cannot be sent to the workers.
        """
        ...

    def map(self, function: Callable[[Plan, OrderT], ResultT], orders: Sequence[OrderT]) -> list[ResultT]:
        """``function(plan, order)`` for every order, in their order.

        Raises:
            WorkerError: if workers keep dying; whatever ``function`` raises.
        """
        ...

    def close(self) -> None:
        """Leave nothing behind; safe to call at any time."""
        ...
