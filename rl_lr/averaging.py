"""Iterate averaging: weights that remember the last few per cent of a run, however long it is.

The polynomial-decay average of Shamir & Zhang (Stochastic gradient descent for non-smooth optimization, 2013,
section 4). After step t = 1, 2, …

.. code-block:: text

    w̄ ← w̄ + (η + 1) / (t + η) · (w - w̄)

so that w̄ is w after the first step, and the share of w̄ that comes from before step s is about (s / t)^(η + 1): half
comes from the last 2 %, 95 % from the last 9 %. It needs no horizon. Where the rate is never annealed it takes away the
noise that annealing would.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from rl_lr.measuring import shard

ETA = 32
"""η: the larger, the shorter the memory."""


@torch.no_grad()
def fold(averages: Sequence[Tensor], weights: Sequence[Tensor], step: int) -> None:
    """Take the weights after step ``step``, from 1, into their averages, in place.

    >>> average = [torch.zeros(1)]
    >>> for step, weight in enumerate((3.0, 6.0), start=1):
    ...     fold(average, [torch.tensor([weight])], step)
    ...     print(round(float(average[0]), 4))
    3.0
    5.9118
    """
    theirs = [weight.to(average.dtype) for average, weight in zip(averages, weights, strict=True)]
    torch._foreach_lerp_(list(averages), theirs, (ETA + 1) / (step + ETA))


class WeightAverage:
    """The average of the weights that an optimizer trains, to be put in their place and out again.

    Floating-point buffers are averaged alike, as implementations of exponential averages do: running statistics
    then lag as the weights do; of what begins infinite or NaN, as masks do, the average is what it is. Nothing is
    averaged before the first step, so that a model may be loaded until then. Frozen parameters are left out until
    they are not; what comes later begins as it is. Averages of half-precision weights are float32, else small
    changes would be rounded away.

    Attributes:
        steps: taken in.

    Args:
        optimizer: whose parameters are averaged.
        buffers: running statistics and the like.
    """

    def __init__(self, optimizer: Optimizer, buffers: Iterable[Tensor] = ()) -> None:
        self._optimizer = optimizer
        self._buffers = [buffer for buffer in buffers if buffer.is_floating_point()]
        self.steps = 0
        self._averages: dict[Tensor, Tensor] = {}  # of each parameter and buffer
        self._unsound: list[Tensor] = []  # of the buffers, what was not finite when its average began
        self._weights: list[Tensor] | None = None  # what is trained, while averages are in its place

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step.

        Raises:
            RuntimeError: if the step was made on the averages.
        """
        if self._weights is not None:
            raise RuntimeError(
                "The optimizer made a step while averaged weights were in the place of its own: train outside of "
                "scheduler.averaged()."
            )
        if not self.steps:
            self._begin(self._buffers)
            self._unsound = [one for one in self._buffers if not one.isfinite().all()]
        if self._begin(self._trained()):
            self._leave_out_what_is_gone()
        self.steps += 1
        fold([*self._averages.values()], self._places(), self.steps)
        for buffer in self._unsound:
            average = self._averages[buffer]
            average.copy_(torch.where(average.isfinite(), average, buffer))

    @torch.no_grad()
    def restart(self) -> None:
        """Forget what went before: the average is what the weights are now."""
        _copy([*self._averages.values()], self._places())

    @torch.no_grad()
    def show(self) -> None:
        """Put the averages in the place of the weights, if they are not there."""
        if self._weights is None:
            self._weights = [place.clone() for place in self._places()]
            _copy(self._places(), [*self._averages.values()])

    @torch.no_grad()
    def hide(self) -> None:
        """Put the weights back, bit by bit, if averages are in their place."""
        if self._weights is not None:
            _copy(self._places(), self._weights)
            self._weights = None

    def keep(self) -> None:
        """Make the averages the weights, for good."""
        self.show()
        self._weights = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """:meth:`show` for a while; within another one nothing changes."""
        outermost = self._weights is None
        self.show()
        try:
            yield
        finally:
            if outermost:
                self.hide()

    def averages_in(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """A state of the network, by name, with averages where it holds their weights."""
        places = self._places()
        averages = [a.to(place.dtype) for a, place in zip(self._averages.values(), places, strict=True)]
        return _replaced(state, places, averages)

    def weights_in(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The same with what is trained, whether averages are in its place or not."""
        return _replaced(state, self._places(), self._weights or self._places())

    def state_dict(self) -> dict[str, Any]:
        """Its state; the tensors are those in use, as in states of torch, so that files hold none of them twice.

        Where weights are spread over processes it holds the part of this one: each has to keep its own.
        """
        tensors = (*self._buffers, *self._parameters())
        averages = [self._averages.get(tensor) for tensor in tensors]
        return {"steps": self.steps, "averages": averages, "part": self._part()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`.

        Raises:
            ValueError: if the weights or buffers are others, or the part of another process.
        """
        if state["part"] != self._part():
            raise ValueError(
                f"The saved averages are of the weights of {_process(state['part'])}, and this is {_process(self._part())}: "
                f"where weights are spread, save and load a state for each process."
            )
        tensors, saved = (*self._buffers, *self._parameters()), state["averages"]
        fitting = [
            average is None or average.shape == shard(t).shape
            for t, average in zip(tensors, saved, strict=False)
        ]
        if len(saved) != len(tensors) or not all(fitting):
            raise ValueError(
                "The saved averages are of other weights or buffers: build model, optimizer and buffers= as in the "
                "saved run."
            )
        self.steps = int(state["steps"])
        for tensor, average in zip(tensors, saved, strict=True):
            if average is not None:
                self._begin([tensor])
                self._averages[tensor].copy_(average)
        begun = [buffer for buffer in self._buffers if buffer in self._averages]
        self._unsound = [one for one in begun if not self._averages[one].isfinite().all()]

    def _begin(self, tensors: Iterable[Tensor]) -> bool:
        """Begin the averages of those that have none; whether there are such."""
        found = [tensor for tensor in tensors if tensor not in self._averages]
        for tensor in found:
            place = shard(tensor.detach())
            wide = torch.promote_types(place.dtype, torch.float32)
            self._averages[tensor] = place.to(wide, copy=True)
        return bool(found)

    def _leave_out_what_is_gone(self) -> None:
        """New parameters may have come in the place of others, which nobody trains any more."""
        there = {*self._buffers, *self._parameters()}
        self._averages = {tensor: one for tensor, one in self._averages.items() if tensor in there}

    def _part(self) -> int | None:
        """The process whose part of the weights this is; None where each has all of them."""
        spread = any(shard(parameter) is not parameter for parameter in self._parameters())
        return torch.distributed.get_rank() if spread else None

    def _places(self) -> list[Tensor]:
        """Where the weights lie that have averages, in the same order."""
        return [shard(tensor) for tensor in self._averages]

    def _parameters(self) -> list[Tensor]:
        """In the order of their groups: what comes later comes last."""
        return [p for group in self._optimizer.param_groups for p in group["params"]]

    def _trained(self) -> list[Tensor]:
        return [p for p in self._parameters() if p.requires_grad]


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    if targets:  # there are none before the first step
        torch._foreach_copy_(targets, sources)


def _process(part: int | None) -> str:
    return "a process that holds all of them" if part is None else f"process {part}"


def existing(average: WeightAverage | None) -> WeightAverage:
    """It, or a refusal where there is none."""
    if average is None:
        raise ValueError("This scheduler keeps no average of the weights: build it with average=True.")
    return average


def _replaced(state: Mapping[str, Any], places: list[Tensor], tensors: list[Tensor]) -> dict[str, Any]:
    """A state with other tensors where it refers to those places."""
    by_place = {
        (place.data_ptr(), place.shape): tensor for place, tensor in zip(places, tensors, strict=True)
    }
    return {
        name: by_place.get((value.data_ptr(), value.shape), value) if isinstance(value, Tensor) else value
        for name, value in state.items()
    }
