"""What a run was when it was last healthy, to go back to."""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer

from rl_lr.averaging import WeightAverage

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


Copies = list[tuple[Tensor, Tensor]]  # original and copy


class Snapshots:
    """Copies of what an optimizer's steps change: parameters, its averages, and buffers of the network.

    There are two, because what an update did shows only in the next loss: a copy is trusted once the
    run was still healthy when the next one was taken. They lie where the originals do, and take
    twice their memory. Counts of steps are left out: time does not go back.

    Args:
        optimizer: its parameters and their state.
        buffers: running statistics and the like.
        average: of the weights, which begins anew where they go back, because it holds what was thrown away.
    """

    def __init__(
        self, optimizer: Optimizer, buffers: Iterable[Tensor] = (), average: WeightAverage | None = None
    ) -> None:
        self._optimizer, self._buffers, self._average = optimizer, list(buffers), average
        self.restart()

    def restart(self) -> None:
        """Trust nothing but what is there now."""
        self._trusted: Copies = []
        self._recent: Copies = []
        self.take()

    @torch.no_grad()
    def take(self) -> None:
        """Copy what is there now, and trust the copy before; what is frozen does not change and is left out."""
        self._trusted, spare = self._recent, self._trusted
        copies, self._recent = {id(original): copy for original, copy in spare}, []
        for original in (*self._buffers, *self._parameters(), *self._averages()):
            copy = copies.get(id(original))
            kept = original.detach().clone() if copy is None else copy.copy_(original)
            self._recent.append((original, kept))

    @torch.no_grad()
    def put_back(self) -> None:
        """Overwrite all of it by the copies that are trusted; averages that did not exist yet begin anew."""
        self._recent, self._trusted = self._trusted or self._recent, []
        for original, copy in self._recent:
            original.copy_(copy)
        known = {id(original) for original, _ in self._recent}
        for average in self._averages():
            if id(average) not in known:
                average.zero_()
        if self._average is not None:
            self._average.restart()

    def _parameters(self) -> list[Tensor]:
        return [p for group in self._optimizer.param_groups for p in group["params"] if p.requires_grad]

    def _averages(self) -> list[Tensor]:
        states = [self._optimizer.state.get(parameter, {}) for parameter in self._parameters()]
        return [v for state in states for k, v in state.items() if isinstance(v, Tensor) and k != "step"]
