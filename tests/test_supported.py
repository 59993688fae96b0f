"""Every optimizer of torch in every way it can be built: controlled, or refused with a reason."""

import math
import warnings
from typing import Any

import pytest
import torch
from linear_fit import RATE, STEPS, Fit
from torch import Tensor, nn

from rl_lr.config import ControlConfig
from rl_lr.policy import Policy
from rl_lr.scheduler import RLScheduler
from rl_lr.schedules import base_schedule
from rl_lr.supported import SUPPORTED

USUAL = {torch.optim.Adagrad: 0.1, torch.optim.Adadelta: 1.0}
"""Base rates of those that want larger ones than ``RATE``."""


def compatible(what: str, verdict: str) -> pytest.MarkDecorator:
    return pytest.mark.compatibility("Optimizers", what, verdict)


def settings_of(kind: type[torch.optim.Optimizer]) -> list[dict[str, Any]]:
    """Ways to build one, each tried alone."""
    ways: list[dict[str, Any]] = [{}]
    taken = torch.optim.AdamW.__init__ if kind is torch.optim.AdamW else kind.__init__
    names = taken.__code__.co_varnames
    ways += [
        {name: True} for name in ("foreach", "fused", "amsgrad", "nesterov", "centered") if name in names
    ]
    if kind is torch.optim.SGD:
        ways = [one | {"momentum": 0.9} if "nesterov" in one else one for one in ways]
    if "foreach" in names:
        ways.append({"lr": torch.tensor(RATE), "foreach": False})
    return ways


def shown(settings: dict[str, Any]) -> str:
    """How a table calls a way to build one."""
    if "lr" in settings:
        return "tensor lr"
    return next(iter(settings), "plain")


CASES = [
    pytest.param(
        kind,
        settings,
        id=f"{kind.__name__}, {shown(settings)}",
        marks=compatible(kind.__name__, f"controlled: {', '.join(map(shown, settings_of(kind)))}"),
    )
    for kind in (*SUPPORTED, torch.optim.AdamW)
    for settings in settings_of(kind)
]


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_it_is_controlled(kind: Any, settings: dict[str, Any]) -> None:
    sparse = kind is torch.optim.SparseAdam
    base = float(settings["lr"]) if "lr" in settings else USUAL.get(kind, RATE)

    def build(parameters: list[Tensor]) -> torch.optim.Optimizer:
        own = {
            name: value.clone() if isinstance(value, Tensor) else value for name, value in settings.items()
        }
        built: torch.optim.Optimizer = kind(parameters, **({"lr": base} | own))
        return built

    fit = Fit(build, sparse)
    held = fit.optimizer.param_groups[0]["lr"]
    rates, _ = fit.train(Policy.keep())
    assert rates == pytest.approx(
        [base * base_schedule(t, STEPS, "cosine", ControlConfig()) for t in range(STEPS)]
    )
    if isinstance(held, Tensor):
        assert fit.optimizer.param_groups[0]["lr"] is held
    _, share = Fit(build, sparse).train("default")
    assert share < 0.05


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        pytest.param(
            torch.optim.LBFGS,
            "searches along a line itself",
            marks=compatible("LBFGS", "refused: it searches along a line itself"),
        ),
        pytest.param(
            torch.optim.Rprop,
            "step size for every weight",
            marks=compatible("Rprop", "refused: it keeps a step size for every weight"),
        ),
        pytest.param(
            torch.optim.Adafactor,
            "bounds lr",
            marks=compatible("Adafactor", "refused: it bounds lr by the number of steps"),
        ),
    ],
)
def test_it_is_refused_with_the_reason(build: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Fit(build).train(Policy.keep())


@pytest.mark.parametrize("name", ["Prodigy", "DAdaptAdam", "AdamWScheduleFree"])
@compatible("Prodigy, D-Adaptation, schedule-free", "refused: they choose their own step sizes")
def test_optimizers_that_tune_themselves_are_refused(name: str) -> None:
    packages = {"Prodigy": "prodigyopt", "DAdaptAdam": "dadaptation", "AdamWScheduleFree": "schedulefree"}
    module = pytest.importorskip(packages[name])
    with pytest.raises(ValueError, match=f"{name} chooses its own step sizes"):
        Fit(lambda parameters: getattr(module, name)(parameters)).train(Policy.keep())


@compatible("optimizers of other packages", "controlled, with one warning")
def test_an_unknown_optimizer_is_controlled_with_a_warning() -> None:
    class Signed(torch.optim.Optimizer):
        def __init__(self, parameters: list[Tensor]) -> None:
            super().__init__(parameters, {"lr": RATE})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.sub_(parameter.grad.sign(), alpha=group["lr"])

    with pytest.warns(UserWarning, match="Signed is not among the optimizers"):
        _, share = Fit(Signed).train("default")
    assert share < 0.05
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class Known(torch.optim.SGD):
            """A subclass of one that is known."""

        RLScheduler(Known([nn.Parameter(torch.ones(2))], 0.1), 10)


def test_an_optimizer_has_one_scheduler_at_a_time() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], 0.1)
    first = RLScheduler(optimizer, 10)
    with pytest.raises(ValueError, match=r"call detach\(\) on the first one"):
        RLScheduler(optimizer, 10)
    first.detach()
    RLScheduler(optimizer, 10)


def test_a_process_gives_its_loss_and_signals_and_goes_by_the_mean() -> None:
    fit, told = Fit(lambda parameters: torch.optim.SGD(parameters, RATE)), []

    def agree(value: Tensor) -> Tensor:
        told.append(value)
        return value * 0.5 + torch.tensor([1.5, 0.5]) if value.numel() == 2 else torch.ones_like(value)

    scheduler = RLScheduler(fit.optimizer, 20, Policy.keep(), agree=agree)
    own = fit.step()
    scheduler.step(own)
    assert told[1].tolist() == [pytest.approx(float(own)), 1.0]  # its loss, and that it has one
    assert float(scheduler.controller._latest) == pytest.approx(float(own) / 2 + 1.5)
    assert scheduler.latest_signals is not None
    assert (scheduler.latest_signals == 1.0).all()
    fit.step()
    scheduler.step(None)
    assert told[3].tolist() == [0.0, 0.0]
    assert float(scheduler.controller._latest) == pytest.approx(3.0)  # the other's alone


def test_a_step_without_a_loss_does_not_count() -> None:
    fit = Fit(lambda parameters: torch.optim.SGD(parameters, 0.01))
    scheduler = RLScheduler(fit.optimizer, 20, Policy.keep())
    fit.step()
    scheduler.step(None)
    assert scheduler.controller.step == 0
    scheduler.step(fit.step())
    assert scheduler.controller.step == 1
    assert math.isfinite(scheduler.get_last_lr()[0])
