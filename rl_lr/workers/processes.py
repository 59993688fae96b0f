"""Workers that are processes on this machine."""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait

from rl_lr.episodes import Plan
from rl_lr.workers import parcels
from rl_lr.workers.protocol import OrderT, ResultT, WorkerError

_PATIENCE = 3  # deaths in a row without any order carried out between them

_plan = b""  # of the training that this worker process belongs to


class Processes:
    """``count`` fresh processes; what one that died was doing is done again.

    A script that uses them must keep its own work under ``if __name__ == "__main__":``, because
    every process imports the script to know its classes.

    Args:
        count: number of processes; None for one per core this process may use.
    """

    def __init__(self, count: int | None = None) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.count = cores if count is None else count
        if self.count < 1:
            raise ValueError(f"workers is {count}: give the number of processes, at least 1.")
        self._pool: ProcessPoolExecutor | None = None

    def start(self, plan: Plan) -> None:
        """Pack the plan; processes start with the first order."""
        self._packed = parcels.pack(plan)

    def map(self, function: Callable[[Plan, OrderT], ResultT], orders: Sequence[OrderT]) -> list[ResultT]:
        """``function(plan, order)`` for every order, in their order."""
        results: dict[int, ResultT] = {}
        deaths = 0
        while len(results) < len(orders):
            missing = [index for index in range(len(orders)) if index not in results]
            done = self._round(function, {index: orders[index] for index in missing})
            results |= done
            if len(done) < len(missing):
                self.close()
                deaths = 1 if done else deaths + 1
                self._tell(deaths)
        return [results[index] for index in range(len(orders))]

    def _round(
        self, function: Callable[[Plan, OrderT], ResultT], orders: dict[int, OrderT]
    ) -> dict[int, ResultT]:
        """Carry out orders; those are missing from the results that were lost with a dead process."""
        pool = self._pool = self._pool or self._open()
        results: dict[int, ResultT] = {}
        try:
            futures = {
                index: pool.submit(_carry_out, parcels.pack_order(function, order))
                for index, order in orders.items()
            }
        except BrokenProcessPool:  # died since the last round
            return results
        for index, future in futures.items():
            try:
                results[index] = parcels.open_reply(future.result())
            except BrokenProcessPool:
                continue
        return results

    def _open(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # a fork would copy the state of torch's threads
        return ProcessPoolExecutor(self.count, context, initializer=_begin, initargs=(self._packed,))

    def _tell(self, deaths: int) -> None:
        if deaths == _PATIENCE:
            raise WorkerError(
                f"Worker processes died {deaths} times in a row before they finished anything: if memory ran out, "
                f'train with fewer workers or a smaller group_size; a script needs if __name__ == "__main__": '
                f"around its own work."
            )
        warnings.warn("A worker process died: what it was doing is done again.", stacklevel=3)

    def close(self) -> None:
        """End the processes; one at work finishes its order first."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def _begin(plan: bytes) -> None:
    """In a new worker process: Ctrl-C is the learner's affair, and its end is the worker's."""
    global _plan
    _plan = plan
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _carry_out(parcel: bytes) -> bytes:
    return parcels.carry_out(_plan, parcel)
