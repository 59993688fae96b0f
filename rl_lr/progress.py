"""A progress bar for policy training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rl_lr.agents import Figures
from rl_lr.training import Report


@contextmanager
def training_progress(
    console: Console,
    iterations: int | None = None,
    seconds: float | None = None,
    show: Callable[[Figures], str] | None = None,
) -> Iterator[Report]:
    """A bar over ``iterations``, or over ``seconds``; yields what :func:`rl_lr.train` reports to.

    Args:
        console: where it is shown.
        iterations: of the training.
        seconds: that it takes, if not so many iterations.
        show: what to say of the figures; None for those of an agent.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("iteration 0", total=iterations or seconds, figures="")

        def report(iteration: int, figures: Figures) -> None:
            done = iteration if iterations else min(seconds or 0.0, bar.tasks[task].elapsed or 0.0)
            bar.update(
                task,
                completed=done,
                description=f"iteration {iteration}",
                figures=(show or _of_agent)(figures),
            )

        yield report


def _of_agent(figures: Figures) -> str:
    shown = f"return {figures['return']:.2f}, {figures['decisions_per_second']:.0f} decisions/s"
    if "regret_to_same_rate" in figures:
        shown += f", against the base schedule {figures['regret_to_same_rate']:+.2f} nats"
    return shown


def of_unrolls(figures: Figures) -> str:
    """What to say of a training by unrolled runs."""
    shown = f"loss at the end {figures['end']:.3g} of that at the start"
    return shown + (f", on runs kept apart {figures['loss']:.3g}" if "loss" in figures else "")
