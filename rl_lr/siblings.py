"""``rl-lr siblings``: what each sibling system reaches, measured and written down (``docs/siblings.md``)."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from rl_lr.few_shot.command import few_shot_command


def learned_optimizer_command(
    out: Path = Path("learned-optimizer-out"),
    page: Path | None = None,
    mnist: Path | None = None,
    quick: bool = False,
) -> None:
    """Compare learned steps for every coordinate with tuned optimizers, on the problems of Andrychowicz et al.

    Args:
        out: Folder for results and figure.
        page: Page whose marked section is written anew; left out, results.md in out.
        mnist: Folder with the files of MNIST, to be compared on beside the bundled digits.
        quick: A few runs only, to see that everything works.
    """
    from rl_lr.coordinate.measure import run_learned_optimizer

    run_learned_optimizer(out, page, mnist, quick, Console())


def design_command(
    out: Path = Path("siblings-out/design"), page: Path | None = None, quick: bool = False
) -> None:
    """Measure how far networks that design networks are reproduced: agents against chance, by hand, LSTM.

    Args:
        out: Folder for every judged design and the results; what is there already is not made again.
        page: Where to write the page of results; left out, design.md in out.
        quick: Whether to measure next to nothing, only to see that it works.
    """
    from rl_lr.design.measure import run_measure

    run_measure(out, page, quick)


SIBLINGS: dict[str, Callable[..., None]] = {
    "learned-optimizer": learned_optimizer_command,
    "few-shot": few_shot_command,
    "design": design_command,
}
"""By the name on the command line."""
