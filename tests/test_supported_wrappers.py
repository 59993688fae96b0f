"""Optimizers around another optimizer, which makes the steps."""

from typing import Any

import pytest
import torch
from linear_fit import RATE, STEPS, Fit
from torch import Tensor, nn

from rl_lr.policy import Policy
from rl_lr.scheduler import RLScheduler

compatible = pytest.mark.compatibility(
    "Optimizers",
    "Lookahead, sharpness-aware minimization, others around an optimizer",
    "controlled by the one inside",
)


class Lookahead(torch.optim.Optimizer):
    """Every fifth step of another optimizer goes half of the way back (1907.08610)."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        # Without torch's own __init__, as most that are published.
        self.optimizer, self.defaults, self.state = inner, inner.defaults, inner.state
        self.param_groups, self.made = inner.param_groups, 0
        self.slow = [parameter.detach().clone() for parameter in self._parameters()]

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.optimizer.step()
        self.made += 1
        for slow, fast in zip(self.slow, self._parameters(), strict=True):
            if self.made % 5 == 0:
                fast.copy_(slow.lerp_(fast, 0.5))


@compatible
@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_an_optimizer_around_another_is_controlled_by_the_one_inside(factor: float) -> None:
    fit = Fit(lambda parameters: Lookahead(torch.optim.Adam(parameters, RATE * factor)))
    rates, share = fit.train("default")
    assert len(set(rates)) == STEPS
    assert share < 0.05


@compatible
@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_steps_that_go_round_the_method_of_the_outer_optimizer_are_noticed(factor: float) -> None:
    class SharpnessAware(torch.optim.Optimizer):
        """The gradient from a little uphill (2010.01412); called by two methods instead of ``step``."""

        def __init__(self, parameters: list[Tensor]) -> None:
            super().__init__(parameters, {})
            self.base_optimizer = torch.optim.SGD(self.param_groups, RATE * factor)
            self.param_groups = self.base_optimizer.param_groups
            self.uphill: list[Tensor] = []

        @torch.no_grad()
        def first_step(self) -> None:
            gradients = [p.grad for group in self.param_groups for p in group["params"]]
            length = nn.utils.get_total_norm(gradients)
            self.uphill = [0.01 * gradient / length for gradient in gradients]
            self._move(1.0)

        @torch.no_grad()
        def second_step(self) -> None:
            self._move(-1.0)
            self.base_optimizer.step()

        def _move(self, sign: float) -> None:
            parameters = [p for group in self.param_groups for p in group["params"]]
            torch._foreach_add_(parameters, self.uphill, alpha=sign)

    fit = Fit(SharpnessAware)
    sharp: Any = fit.optimizer
    scheduler, first = RLScheduler(sharp, STEPS), fit.share()
    for _ in range(STEPS):
        loss = fit.differentiate()
        sharp.first_step()
        fit.differentiate()
        sharp.second_step()
        scheduler.step(loss)
    assert scheduler.controller.step == STEPS
    assert fit.share() < 0.05 * first


def test_an_optimizer_that_calls_no_hooks_is_refused() -> None:
    class Own(Lookahead):
        """With nothing inside that would call them."""

        def __init__(self, parameters: list[Tensor]) -> None:
            self.param_groups: list[dict[str, Any]] = [{"params": parameters, "lr": RATE}]

    with pytest.raises(ValueError, match=r"Own calls no step hooks.*let its __init__ call super\(\)"):
        Fit(Own).train("default")


def test_one_that_tunes_another_is_not_taken_for_the_one_inside() -> None:
    schedulefree = pytest.importorskip("schedulefree")
    with pytest.raises(ValueError, match="ScheduleFreeWrapper chooses its own step sizes"):
        Fit(lambda own: schedulefree.ScheduleFreeWrapper(torch.optim.SGD(own, RATE))).train(Policy.keep())
