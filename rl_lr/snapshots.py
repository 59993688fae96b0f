"""What a run was when it was last healthy, to go back to."""

import warnings
from collections.abc import Iterable, Sequence
from operator import attrgetter, is_
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer

from rl_lr.averaging import WeightAverage
from rl_lr.measuring import shard

OnDivergence = Literal["restore", "cut"]
"""What becomes of a run whose loss exploded: back to where it was healthy, or only a lower rate."""


def check_on_divergence(on_divergence: str) -> None:
    """Refuse an unknown choice."""
    if on_divergence not in get_args(OnDivergence):
        raise ValueError(f"on_divergence is {on_divergence!r}: choose 'restore' or 'cut'.")


def copy_rows(target: Sequence[Tensor], source: Sequence[Tensor], rows: Tensor) -> None:
    """Overwrite the chosen rows, ``[runs]`` bool, of every target ``[runs, ...]`` by the source's, in place."""
    if rows.all():
        torch._foreach_copy_(list(target), list(source))
    elif rows.any():
        for ours, theirs in zip(target, source, strict=True):
            ours[rows] = theirs[rows]


def writable(buffers: Iterable[Tensor]) -> list[Tensor]:
    """Those that can be overwritten; an expanded one, whose numbers lie in one place, nothing can train either.

    Raises:
        TypeError: for what is no tensor.
    """
    buffers = list(buffers)
    for buffer in buffers:
        if not isinstance(buffer, Tensor):
            raise TypeError(
                f"buffers has a {type(buffer).__name__} in it: pass tensors, as model.buffers() does."
            )
    return [
        one
        for one in buffers
        if all(stride or size < 2 for stride, size in zip(one.stride(), one.shape, strict=True))
    ]


Copies = list[tuple[Tensor, Tensor]]  # original and copy

_is_trainable = attrgetter("requires_grad")


class Snapshots:
    """Copies of what an optimizer's steps change: parameters, its averages, and buffers of the network.

    There are two, because what an update did shows only in the next loss: a copy is trusted once the
    run was still healthy when the next one was taken. They lie where the originals do, and take
    twice their memory. Counts of steps are left out: time does not go back. What an optimizer keeps of a
    parameter and no copy holds, it makes anew, as at its first step.

    Args:
        optimizer: its parameters and their state.
        buffers: running statistics and the like.
        average: of the weights, which begins anew where they go back, because it holds what was thrown away.
    """

    def __init__(
        self, optimizer: Optimizer, buffers: Iterable[Tensor] = (), average: WeightAverage | None = None
    ) -> None:
        self._optimizer, self._buffers, self._average = optimizer, list(buffers), average
        self._trained: dict[Tensor, None] = {}  # what was trainable before a step, in order
        self._all: list[Tensor] = []  # of the optimizer when it was looked at last
        self._trainable: list[bool] = []  # what of that was
        self.restart()

    def restart(self) -> None:
        """Trust nothing but what is there now, or before the next step: what is loaded until then counts."""
        self._trusted: Copies = []
        self._recent: Copies = []
        self._begun = False
        self._find_trainable()
        self.take()

    def notice(self) -> None:
        """Before a step: copy what will be trained for the first time, for nobody else knows what it was."""
        now = self._parameters()
        same = len(now) == len(self._all) and all(map(is_, now, self._all))
        if same and self._begun and list(map(_is_trainable, now)) == self._trainable:
            return  # as in nearly every step
        if not self._begun:
            self._begin()
        found = self._find_trainable()
        if not same:
            self._leave_out_what_is_gone()
        for parameter in found:
            for original in (parameter, *_averages_of(self._optimizer.state.get(parameter, {})).values()):
                for copies in filter(None, (self._trusted, self._recent)):
                    if all(original is not one for one, _ in copies):
                        copies.append((original, original.detach().clone()))

    @torch.no_grad()
    def take(self) -> None:
        """Copy what is there now, and trust the copy before; what was never trainable is left out."""
        self._trusted, spare = self._recent, self._trusted
        copies, self._recent = {id(original): copy for original, copy in spare}, []
        for original in (*self._buffers, *self._trained, *self._averages()):
            copy = copies.get(id(original))
            kept = original.detach().clone() if copy is None else copy.copy_(original)
            self._recent.append((original, kept))

    @torch.no_grad()
    def put_back(self) -> None:
        """Overwrite all of it by the copies that are trusted."""
        self._recent, self._trusted = self._trusted or self._recent, []
        for original, copy in self._recent:
            original.copy_(copy)
        self._forget_all_but({id(original) for original, _ in self._recent})
        if self._average is not None:
            self._average.restart()

    @torch.no_grad()
    def _begin(self) -> None:
        """Copy anew what a model that was loaded after the scheduler has brought, but nothing that is lost already."""
        self._begun = True
        for original, copy in self._recent:
            now, kept = shard(original), shard(copy)
            kept.copy_(torch.where(now.isfinite(), now, kept))
        weights = [shard(copy) for original, copy in self._recent if original in self._trained]
        # Elsewhere than on the CPU looking would wait.
        if not all(bool(one.isfinite().all()) for one in weights if one.is_cpu):
            warnings.warn(
                "The weights that this run begins with are not finite, and it has nothing healthy to go back to: load an "
                "earlier checkpoint.",
                stacklevel=2,
            )

    def _find_trainable(self) -> list[Tensor]:
        """What is trainable now and was not yet known to be; it stays known, whatever is frozen between steps."""
        self._all = self._parameters()
        self._trainable = list(map(_is_trainable, self._all))
        found = [p for p in self._all if p.requires_grad and p not in self._trained]
        self._trained |= dict.fromkeys(found)
        return found

    def _leave_out_what_is_gone(self) -> None:
        """Parameters may have been replaced by others: what the optimizer does not know any more is not held on to."""
        there = set(self._all)
        self._trained = {parameter: None for parameter in self._trained if parameter in there}
        known = {id(original) for original in (*self._buffers, *self._trained, *self._averages())}
        self._trusted, self._recent = (
            [one for one in copies if id(one[0]) in known] for copies in (self._trusted, self._recent)
        )

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self._optimizer.param_groups for parameter in group["params"]]

    def _averages(self) -> list[Tensor]:
        return [average for state in self._states() for average in _averages_of(state).values()]

    def _forget_all_but(self, known: set[int]) -> None:
        """Let the optimizer make anew what it keeps of parameters, as at their first step, where no copy holds it."""
        for state in self._states():
            averages = _averages_of(state)
            unknown = [name for name, average in averages.items() if id(average) not in known]
            if unknown and len(unknown) == len(averages):
                state.clear()
            for name in unknown:
                state.pop(name, None)

    def _states(self) -> list[dict[str, Any]]:
        return [self._optimizer.state[one] for one in self._trained if one in self._optimizer.state]


def _averages_of(state: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, Tensor) and name != "step"}
