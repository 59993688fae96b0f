"""What a benchmark measures: ratios of neighbours, taken in turn within one run."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from rich.progress import track


@dataclass(frozen=True)
class Ratio:
    """A measured ratio: median over the repetitions, and what 80 % of them lie between."""

    name: str
    median: float
    low: float
    high: float
    wanted: str = ""
    """The bound it is held against, if there is one."""

    @classmethod
    def single(cls, name: str, value: float, wanted: str = "") -> "Ratio":
        """A figure without noise, such as a number of bytes."""
        return cls(name, value, value, value, wanted)

    @classmethod
    def over(cls, name: str, ratios: Sequence[float], wanted: str = "") -> "Ratio":
        """What repetitions, at least two, came to."""
        spread = quantiles(ratios, n=10)
        return cls(name, median(ratios), spread[0], spread[-1], wanted)


def paired(
    name: str, wanted: str, ours: Callable[[], float], theirs: Callable[[], float], repetitions: int
) -> Ratio:
    """The ratio ours / theirs of two measurements taken in turn, ``repetitions`` times after a warm-up."""
    ours(), theirs()
    return Ratio.over(name, [ours() / theirs() for _ in track(range(repetitions), description=name)], wanted)


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def processor_seconds(action: Callable[[], object]) -> float:
    """Processor time of all threads of this process in one call: waiting, for a disk or for other work, is not in it."""
    begin = time.process_time()
    action()
    return time.process_time() - begin
