"""A comparison as data: every run of every arm, and what it comes to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rl_lr.compare.figures import Cell, Duel, Reference, Summary, cell, duel, summary
from rl_lr.compare.runs import Arm, Track
from rl_lr.compare.store import Made
from rl_lr.compare.workloads import Workload

CARRIED_OVER = "tuned, another seed"
"""The line of the setting that was tuned for one seed, and run from another."""


@dataclass(frozen=True)
class Comparison:
    """Arms on workloads, against the best of a tuned grid."""

    workloads: Sequence[Workload]
    """What was run."""
    arms: Sequence[Arm]
    """The arms that are compared, ours first."""
    tuned: Sequence[Arm]
    """The arms whose runs are the tuned grid."""
    made: Sequence[Mapping[str, Made]]
    """For each workload, the runs of every arm by its name."""
    others: Sequence[str] = ()
    """Arms that are compared with each other, too."""

    @cached_property
    def rows(self) -> dict[str, list[list[Track]]]:
        """By the name of a table's line, the runs on each workload."""
        rows: dict[str, list[list[Track]]] = {}
        for arm in self.arms:
            for runs in self.made:
                for name, tracks in arm.rows(runs[arm.name].tracks).items():
                    rows.setdefault(name, []).append(tracks)
        return rows

    @cached_property
    def references(self) -> list[dict[int, Reference]]:
        """For each workload, the best run of the grid by seed."""
        found = []
        for workload, runs in zip(self.workloads, self.made, strict=True):
            grid = [one for arm in self.tuned for one in runs[arm.name].tracks]
            seeds = range(workload.seeds)
            found.append({seed: Reference.of([one for one in grid if one.seed == seed]) for seed in seeds})
        return found

    @cached_property
    def cells(self) -> dict[str, list[Cell]]:
        """By the name of a table's line, its runs against the reference."""
        return {
            name: [
                cell(workload.name, name, one, best[one.seed], workload.steps)
                for workload, best, tracks in zip(self.workloads, self.references, row, strict=True)
                for one in tracks
            ]
            for name, row in self.rows.items()
        }

    @cached_property
    def carried_over(self) -> list[Cell]:
        """What tuning buys elsewhere: the setting that won for one seed of a workload, from its other seeds.

        Empty if no workload has a second seed.
        """
        found = []
        for workload, runs, best in zip(self.workloads, self.made, self.references, strict=True):
            for chosen in range(workload.seeds):
                name, factor = next(
                    (arm.name, one.factor)
                    for arm in self.tuned
                    for one in runs[arm.name].tracks
                    if one is best[chosen].track
                )
                found += [
                    cell(workload.name, CARRIED_OVER, one, best[one.seed], workload.steps)
                    for one in runs[name].tracks
                    if one.factor == factor and one.seed != chosen
                ]
        return found

    @cached_property
    def summaries(self) -> list[Summary]:
        """One for each line, and at the end what the tuned setting does from other seeds."""
        lines = self.cells | ({CARRIED_OVER: self.carried_over} if self.carried_over else {})
        return [summary(name, cells) for name, cells in lines.items()]

    @cached_property
    def duels(self) -> list[Duel]:
        """The first line against each other."""
        ours, *others = self.cells.values()
        return [duel(ours, theirs) for theirs in others]

    @cached_property
    def between(self) -> dict[str, list[Duel]]:
        """Each of the others, but the last, against those after it."""
        names = [name for name in self.others if name in self.cells]
        return {
            name: [duel(self.cells[name], self.cells[other]) for other in names[index + 1 :]]
            for index, name in enumerate(names[:-1])
        }

    @property
    def minutes(self) -> dict[str, float]:
        """What the runs of each arm took, on one core."""
        names = dict.fromkeys(arm.name for arm in (*self.arms, *self.tuned))
        return {name: sum(runs[name].seconds for runs in self.made) / 60 for name in names}
