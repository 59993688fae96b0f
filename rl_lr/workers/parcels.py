"""What travels between the learner and a worker: bytes, made and opened here on either side."""

import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cloudpickle

from rl_lr.episodes import Plan
from rl_lr.process import compute_portably, dedicate_process
from rl_lr.tasks import name_of


@dataclass(frozen=True)
class Reply:
    """What a worker sends back."""

    result: Any
    """Of the function."""
    doubts: tuple[str, ...]
    """Texts of the warnings on the way."""


def pack(plan: Plan) -> bytes:
    """The plan as bytes; functions and classes of scripts and notebooks travel by value.

    Raises:
        ValueError: if a task cannot travel, by its name.
    """
    for family, _ in plan.families:
        try:
            cloudpickle.dumps(family)
        except Exception as error:  # whatever a task's own objects raise
            raise ValueError(
                f"Task {name_of(family)!r} cannot be sent to workers ({error}): build what cannot be pickled "
                f"inside its model() and data(), or train with the local engine."
            ) from error
    return bytes(cloudpickle.dumps(plan))


def pack_order(function: Callable[..., Any], order: object) -> bytes:
    """A function of plan and order, and the order."""
    return bytes(cloudpickle.dumps((function, order)))


def carry_out(plan: bytes, parcel: bytes) -> bytes:
    """In the worker: carry out an order, and pack the reply."""
    dedicate_process()
    function, order = pickle.loads(parcel)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        opened = _unpack(plan)
        if opened.portable:
            compute_portably()
        result = function(opened, order)
    return pickle.dumps(Reply(result, tuple(str(one.message) for one in caught)))


def open_reply(reply: bytes) -> Any:
    """At the learner: pass on the worker's warnings, return its result."""
    opened: Reply = pickle.loads(reply)
    for text in opened.doubts:
        warnings.warn(text, stacklevel=3)
    return opened.result


@lru_cache(maxsize=1)
def _unpack(plan: bytes) -> Plan:
    unpacked: Plan = pickle.loads(plan)
    return unpacked
