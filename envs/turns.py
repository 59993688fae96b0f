"""Two sides in turn: work in a thread of its own that stops to ask, and whoever answers."""

import threading
from collections.abc import Callable

from torch import Tensor

from rl_lr.randomness import States, kept, seed_all

THREADS = "rl-lr-fit"
"""Name of all threads that work in turn."""

Ask = Callable[[Tensor], Tensor]
"""The signals of a decision → its action."""


class Closed(BaseException):
    """Raised inside the work when nobody will answer any more; no ``except Exception`` may stop it."""


class Turns:
    """Work that runs in a thread, never at the same time as its caller.

    It has the global random generators to itself: what the caller draws between two turns changes
    nothing for the work, and the other way round.

    Args:
        work: is given a function that asks, and waits for the answer.
        seed: of its random generators.
    """

    def __init__(self, work: Callable[[Ask], None], seed: int) -> None:
        self._work, self._seed = work, seed
        self._turn = threading.Semaphore(0)  # the work's
        self._answer = threading.Semaphore(0)  # the caller's
        self._signals: Tensor | None = None
        self._action: Tensor | None = None
        self._closing = False
        self._error: BaseException | None = None
        self._states: States | None = None
        self._thread = threading.Thread(target=self._run, name=THREADS, daemon=True)

    def go_on(self, action: Tensor | None = None) -> Tensor | None:
        """Answer, let the work run, and return what it asks next; None if it is done.

        Args:
            action: the answer; None at the beginning.

        Raises:
            BaseException: whatever the work raised, with its own traceback.
        """
        self._action = action
        with kept():
            if self._states is None:
                seed_all(self._seed)
                self._thread.start()
            else:
                self._states.restore()
                self._turn.release()
            self._answer.acquire()
            self._states = States.now()
        if self._error is not None:
            error, self._error = self._error, None
            self._thread.join()
            raise error
        return self._signals

    def close(self) -> None:
        """End the work where it stands, and its thread."""
        self._closing = True
        if self._thread.is_alive():
            with kept():
                self._turn.release()
                self._thread.join()

    def _run(self) -> None:
        try:
            self._work(self._ask)
        except Closed:
            pass
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            self._error = error
        self._signals = None
        self._answer.release()

    def _ask(self, signals: Tensor) -> Tensor:
        self._signals = signals
        self._answer.release()
        self._turn.acquire()
        if self._closing or self._action is None:
            raise Closed
        return self._action
