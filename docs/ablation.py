"""What each signal is worth to the shipped policy: ``make ablation`` measures it again.

The policy flies tasks that policies are chosen by, and beside it the same policy without one signal, or several: in
their place it sees what they are at that decision on average over all runs. Writes the table of
docs/how-it-decides.md between the markers. For 45 tasks two cores took 41 minutes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from rl_lr import Policy
from rl_lr.compare.controlled import FACTORS
from rl_lr.compare.figures import Cell, duel, summary
from rl_lr.compare.report import Columns, duel_columns, markdown, summary_columns
from rl_lr.compare.runs import drawn, starts
from rl_lr.compare.suites import DRAWS, suite
from rl_lr.compare.workloads import Workload
from rl_lr.process import dedicate_process
from rl_lr.reward import score
from rl_lr.rollout import Draw, Rollout, split
from rl_lr.signals import SIGNALS

PAGE = Path(__file__).with_name("how-it-decides.md")
BEGIN, END = "<!-- ablation: written by make ablation -->\n", "<!-- end of ablation -->"
TAKEN = 3  # tasks of each family
TOGETHER = 8  # pilots whose runs are stepped side by side: memory grows with them


def together(*names: str) -> tuple[str, ...]:
    """The signals of these names, and their slow averages."""
    return tuple(one for one in SIGNALS if one.removesuffix("_slow") in names)


PLACE = 4  # the first signals are the same for all runs of a horizon: on average nothing is taken away
LEFT_OUT: dict[str, tuple[str, ...]] = {
    "offset and last action": SIGNALS[PLACE:6],
    "whether the loss falls": together(*SIGNALS[6:12]),
    "whether steps are too long": together(*SIGNALS[12:16]),
    "the same over a whole window": together(*SIGNALS[16:20]),
    "sizes": together(*SIGNALS[20:23]),
    "all slow averages": tuple(one for one in SIGNALS if one.endswith("_slow")),
} | {f"`{name}`": together(name) for name in SIGNALS[PLACE:] if not name.endswith("_slow")}
"""What is taken away, by the name of its line: whole sections of the page's list, then every signal."""


@dataclass(frozen=True)
class Without:
    """A policy that is not told some signals of a decision."""

    policy: Policy
    """What flies."""
    names: tuple[str, ...]
    """Of the signals that it is not told."""
    usual: Tensor
    """What it sees in their place, ``[decisions, NUM_SIGNALS]``."""

    def act(self, signals: Tensor, decision: int) -> Tensor:
        """Actions ``[runs]`` for the signals of a decision, ``[runs, NUM_SIGNALS]``."""
        seen = signals.clone()
        for column in map(SIGNALS.index, self.names):
            seen[:, column] = self.usual[decision, column]
        return self.policy.act(seen)


@dataclass(frozen=True)
class Flight:
    """What became of a workload's runs, under each pilot."""

    initial: Tensor
    """Loss of the initial weights, ``[runs]``."""
    final: Tensor
    """Loss at the end, ``[pilots, runs]``."""
    signals: Tensor
    """What the first pilot saw, ``[decisions, runs, NUM_SIGNALS]``."""


def workloads() -> list[Workload]:
    """Some tasks of every family of the validation suite."""
    return [one for index, one in enumerate(suite("validation")) if index % DRAWS < TAKEN]


def fly(load: Workload, pilots: Sequence[Without]) -> Flight:
    """Runs from every base rate under every pilot."""
    dedicate_process()
    flown = [
        fly_together(load, pilots[first : first + TOGETHER]) for first in range(0, len(pilots), TOGETHER)
    ]
    return replace(flown[0], final=torch.cat([some.final for some in flown]))


def fly_together(load: Workload, pilots: Sequence[Without]) -> Flight:
    """The same for a few pilots, all of their runs side by side."""
    one = drawn(load, starts(load, FACTORS))
    every = Draw(one.task, one.seeds * len(pilots), one.base_lrs * len(pilots), one.total_steps)
    parts = [Rollout(part, pilots[0].policy.control) for part in split(every)]
    rows = [part.rows for part in parts]
    seen: list[Tensor] = []
    while not parts[0].done:
        signals = torch.cat([part.signals() for part in parts]).split(one.runs)
        actions = [pilot.act(own, len(seen)) for pilot, own in zip(pilots, signals, strict=True)]
        seen.append(signals[0])
        for part, own in zip(parts, torch.cat(actions).split(rows), strict=True):
            part.advance(own)
    initial = torch.cat([part.initial_loss for part in parts])[: one.runs]
    final = torch.cat([part.look()[0] for part in parts]).view(len(pilots), -1)
    return Flight(initial, final, torch.stack(seen))


def flights(loads: Sequence[Workload], pilots: Sequence[Without], doing: str) -> Iterator[Flight]:
    """One for each workload, on all cores."""
    running = joblib.Parallel(joblib.cpu_count(), return_as="generator")(
        joblib.delayed(fly)(load, pilots) for load in loads
    )
    yield from track(running, doing, total=len(loads), console=Console(stderr=True))


def cells(loads: Sequence[Workload], flown: Sequence[Flight], pilot: int, name: str) -> list[Cell]:
    """The runs of a pilot against those of the first, each against the one from the same base rate."""
    found = []
    for load, flight in zip(loads, flown, strict=True):
        whole, own = flight.final[0], flight.final[pilot]
        nats = (score(own, flight.initial) - score(whole, flight.initial)).tolist()
        way = ((own - whole) / (flight.initial - whole)).nan_to_num(torch.inf, torch.inf, -torch.inf).tolist()
        lost = (~(own <= flight.initial)).tolist()
        for start, regret, share, gone in zip(starts(load, FACTORS), nats, way, lost, strict=True):
            found.append(
                Cell(load.name, name, start.factor, start.seed, regret, share, torch.nan, torch.inf, gone)
            )
    return found


def line(whole: Sequence[Cell], without: Sequence[Cell]) -> Columns:
    """The policy with all signals against the one without some."""
    pairs, alone = duel_columns(duel(whole, without)), summary_columns(summary(without[0].arm, without))
    kept = {"without": alone["arm"], "with is lower": pairs["ours is lower"], "by, nats": pairs["by, nats"]}
    more = sum(one.normalised > 0.01 for one in without) / len(without)
    return kept | {"over 1 % worse": f"{100 * more:.0f} %", "worst": alone["worst"], "lost": alone["lost"]}


def section(policy: Policy, loads: Sequence[Workload], flown: Sequence[Flight]) -> str:
    """What stands between the markers: sections first, then signals, those that are worth most on top."""
    whole = cells(loads, flown, 0, "nothing")
    found = [cells(loads, flown, index, name) for index, name in enumerate(LEFT_OUT, start=1)]
    sections = sum(not name.startswith("`") for name in LEFT_OUT)
    tables = [
        markdown([line(whole, one) for one in sorted(part, key=lambda one: -duel(whole, one).advantage)])
        for part in (found[:sections], found[sections:])
    ]
    about = (
        f"Policy `{policy.name}`, checksum `{policy.sha256[:12]}`; {len(loads)} tasks of the validation suite, five base "
        f"rates, {len(whole)} runs; torch {torch.__version__.partition('+')[0]}."
    )
    return "\n\n".join((about, *tables)) + "\n"


def main() -> None:
    """Fly everything and write the page."""
    policy, loads = Policy.load(), workloads()
    nothing = torch.zeros(policy.control.decision_count, len(SIGNALS))
    alone = flights(loads, [Without(policy, (), nothing)], "all signals")
    usual = torch.cat([one.signals for one in alone], dim=1).mean(dim=1)
    pilots = [Without(policy, names, usual) for names in ((), *LEFT_OUT.values())]
    flown = list(flights(loads, pilots, "one by one"))
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    text = before + BEGIN + section(policy, loads, flown) + END + rest.split(END)[1]
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
