"""Workers on the machines of a Ray cluster."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rl_lr.episodes import Plan
from rl_lr.workers import parcels
from rl_lr.workers.protocol import OrderT, ResultT, WorkerError

_ANSWERS_WITHIN = 5.0  # seconds that a cluster has to accept a connection

_RETRIES = 5  # times that an episode is played again after its machine was lost


class RayCluster:
    """Every order is a Ray task; what a lost machine was doing, Ray does again on another.

    Args:
        count: orders under way at once; None for as many as the cluster has cores.
        address: of a cluster, ``host:port`` or ``auto`` for the one that this machine belongs
            to; None takes what RAY_ADDRESS says, as inside a submitted job, or else starts one on
            this machine, which ends with the training.
    """

    def __init__(self, count: int | None = None, address: str | None = None) -> None:
        if count is not None and count < 1:
            raise ValueError(
                f"workers is {count}: give the number of episodes under way at once, at least 1."
            )
        self.count, self.address = count, address
        self._ours = False

    def start(self, plan: Plan) -> None:
        """Connect, and put the plan where all machines can read it."""
        packed = parcels.pack(plan)
        ray = _import_ray()
        if not ray.is_initialized():
            self._connect(ray)
            self._ours = True
        self._plan = ray.put(packed)
        self._task = ray.remote(num_cpus=1, max_retries=_RETRIES)(parcels.carry_out)

    def map(self, function: Callable[[Plan, OrderT], ResultT], orders: Sequence[OrderT]) -> list[ResultT]:
        """``function(plan, order)`` for every order, in their order."""
        ray = _import_ray()
        limit = self.count or len(orders)
        replies: list[Any] = []
        for order in orders:
            open_ones = ray.wait(replies, num_returns=len(replies), timeout=0)[1] if replies else []
            if len(open_ones) >= limit:
                ray.wait(open_ones, num_returns=len(open_ones) - limit + 1)
            replies.append(self._task.remote(self._plan, parcels.pack_order(function, order)))
        try:
            return [parcels.open_reply(reply) for reply in ray.get(replies)]
        except ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except ray.exceptions.RayError as error:
            raise WorkerError(
                f"The Ray cluster lost an episode more than {_RETRIES} times ({type(error).__name__}): if memory ran "
                f"out, train with fewer workers or a smaller group_size; rl-lr train --resume goes on from the last "
                f"iteration."
            ) from error

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._ours:
            _import_ray().shutdown()
            self._ours = False

    def _connect(self, ray: Any) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unasked
        quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": None}
        address = self.address or os.environ.get("RAY_ADDRESS")
        if address is None:
            ray.init(num_cpus=self.count, **quiet | {"include_dashboard": False})
            return
        _check_reachable(address)
        try:
            ray.init(address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ValueError(_no_cluster(address, str(error).splitlines()[0])) from error


def _check_reachable(address: str) -> None:
    """Whether a cluster answers there: ``ray.init`` itself would try for minutes, and print traces."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(_no_cluster(address, "it is not of the form host:port"))
    try:
        socket.create_connection((host, int(port)), _ANSWERS_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise ValueError(_no_cluster(address, str(error))) from error
    if address.startswith("ray://"):
        return  # Ray's client asks by itself
    question = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        subprocess.run(question, check=True, capture_output=True, timeout=2 * _ANSWERS_WITHIN)
    except subprocess.SubprocessError as error:
        raise ValueError(_no_cluster(address, "what listens there does not answer as Ray does")) from error


def _no_cluster(address: str, reason: str) -> str:
    return (
        f"There is no Ray cluster at {address!r} ({reason}): give the address that `ray start --head` printed, "
        f"or leave it out to use this machine."
    )


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ValueError('The ray engine needs Ray: pip install "rl-lr[ray]".') from error
    return ray
