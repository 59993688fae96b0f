"""The problems of the comparison: what must be reached, and what is shown as well."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from rl_lr.coordinate.arms import Problem
from rl_lr.coordinate.tasks import digits_mlp, quadratics

_ON_QUADRATICS = {
    "SGD": (1e-3, 1.0),
    "momentum": (1e-3, 1.0),
    "RMSprop": (1e-3, 1.0),
    "Adam": (1e-2, 10.0),
}
_ON_IMAGES = {"SGD": (2e-2, 20.0), "momentum": (1e-2, 10.0), "RMSprop": (1e-3, 1.0), "Adam": (1e-3, 1.0)}


def problems(mnist: Path | None, quick: bool, policies: tuple[str, str]) -> list[Problem]:
    """What is compared on.

    Args:
        mnist: folder of its files; None leaves it out.
        quick: fewer problems, fewer and shorter runs, to see that everything works.
        policies: for quadratics and for networks.
    """
    on_quadratics, on_images = policies
    few, many = (3, 4) if quick else (30, 100)
    steps, long = (6 if quick else 100), 1000

    def bowl(steps: int, must: bool) -> Problem:
        name = f"quadratics, {steps} steps"
        return Problem(name, quadratics(), many, steps, on_quadratics, must, _ON_QUADRATICS)

    def images(
        name: str,
        steps: int,
        must: bool = False,
        width: int = 20,
        activation: Callable[[], nn.Module] = nn.Sigmoid,
        folder: Path | None = None,
    ) -> Problem:
        task = digits_mlp(width, activation, folder)
        return Problem(f"{name}, {steps} steps", task, few, steps, on_images, must, _ON_IMAGES)

    found = [bowl(steps, must=True), images("sigmoid MLP", steps, must=True)]
    found += [images("sigmoid MLP on MNIST", steps, must=True, folder=mnist)] if mnist else []
    relu = images("ReLU MLP", steps, activation=nn.ReLU)
    if quick:
        return [*found, relu]
    wide = images("sigmoid MLP of 40 units", steps, width=40)
    return [*found, bowl(long, must=False), images("sigmoid MLP", long), relu, wide]
