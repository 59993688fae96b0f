"""Fits from several base rates that wait for each other at decisions: what training plays."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from rl_lr.envs.lightning_fit import LightningFit


class FitGroup:
    """A :class:`rl_lr.groups.Group` of fits. One that ends early, by a callback of the user's, waits for the others.

    Args:
        fits: one for each run, not begun.
        seeds: of each.
        factors: of each base rate.
    """

    def __init__(
        self, fits: "Sequence[LightningFit]", seeds: Sequence[int], factors: Sequence[float]
    ) -> None:
        self.rows, self.step = len(fits), 0
        self._fits, self._over = fits, [False] * len(fits)
        self._rates, self._losses, self._initial = (
            torch.ones(len(fits), dtype=torch.float64) for _ in range(3)
        )
        try:
            seen = [
                fit.reset(options={"seed": seed, "factor": factor})[0]
                for fit, seed, factor in zip(fits, seeds, factors, strict=True)
            ]
        except BaseException:
            self.close()
            raise
        self._signals = torch.stack([torch.from_numpy(one) for one in seen])

    @property
    def done(self) -> bool:
        """Whether all fits have ended."""
        return all(self._over)

    @property
    def initial_loss(self) -> Tensor:
        """Of the initial weights, ``[runs]``, as far as is known."""
        return self._initial

    @property
    def final_loss(self) -> Tensor | None:
        """``[runs]``; None before all have ended."""
        return self._losses if self.done else None

    def signals(self) -> Tensor:
        """What the policy sees at the open decision, ``[runs, NUM_SIGNALS]``."""
        return self._signals.clone()

    def advance(self, actions: Tensor) -> Tensor:
        """Act, ``[runs]``, let one fit after the other run on, and return the rewards ``[runs]``."""
        rewards = torch.zeros(self.rows)
        try:
            for index, fit in enumerate(self._fits):
                if not self._over[index]:
                    rewards[index] = self._step(index, fit, actions[index])
        except BaseException:
            self.close()
            raise
        return rewards

    def look(self) -> tuple[Tensor, Tensor]:
        """Mean training loss since the decision before, at the end the result; rate of the latest step."""
        return self._losses.clone(), self._rates.clone()

    def held_out_loss(self) -> Tensor:
        """The result: a fit is judged by what it monitors."""
        return self._losses

    def close(self) -> None:
        """End what is under way."""
        for fit in self._fits:
            fit.close()

    def _step(self, index: int, fit: "LightningFit", action: Tensor) -> float:
        """One fit to its next decision."""
        seen, reward, over, _, info = fit.step(action.reshape(1).numpy())
        self._signals[index] = torch.from_numpy(seen)
        self._rates[index], self._losses[index] = info["lr"], info["loss"]
        self.step, self._over[index] = info["step"], over
        if over:
            self._initial[index] = info["initial_loss"]
        return reward
