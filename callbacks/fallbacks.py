"""What becomes of a run under control when something fails."""

from typing import Literal, get_args

from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from rl_lr.callbacks.loggers import Metrics
from rl_lr.scheduler import RLScheduler

OnError = Literal["fallback", "raise"]
"""Whether an ailing run goes on under its base schedule, or ends."""


class Fallbacks:
    """Reports steps to schedulers, and hands an ailing run back to its base schedule with one warning.

    Args:
        on_error: ``"fallback"``, or ``"raise"``: the error is the user's.
        name: of the callback, for the warning.

    Raises:
        ValueError: for another choice.
    """

    def __init__(self, on_error: OnError, name: str) -> None:
        if on_error not in get_args(OnError):
            raise ValueError(f"on_error is {on_error!r}: choose 'fallback' or 'raise'.")
        self._on_error, self._name = on_error, name
        self._counts: dict[str, int] = {}  # by the kind of error
        self._released: list[RLScheduler] = []

    def step(self, scheduler: RLScheduler, loss: Tensor | None) -> None:
        """Report a step; one that fails counts, so that the base schedule goes on."""
        made = scheduler.controller.step + 1
        try:
            scheduler.step(loss)
        except Exception as error:
            if self._on_error == "raise":
                raise
            scheduler.controller.step = made
            try:
                scheduler.release()
            except ValueError:  # groups were taken away, nobody knows which: the others keep their rates
                scheduler.detach()
            reason = type(error).__name__
            self._counts[reason] = self._counts.get(reason, 0) + 1
            if scheduler not in self._released:
                self._released.append(scheduler)
                rank_zero_warn(f"{self._name} hands over to the base schedule: {reason}: {error}")

    def metrics(self) -> Metrics:
        """How often, by the kind of error."""
        return {f"rl_lr/fallbacks/{reason}": float(count) for reason, count in self._counts.items()}
