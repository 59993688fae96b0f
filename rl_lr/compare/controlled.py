"""Arms under the control law: a policy, what stands in for one, or a base schedule by itself."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from rl_lr.compare.runs import LOOKS, Looks, Track, drawn, starts
from rl_lr.compare.workloads import Workload
from rl_lr.config import ControlConfig
from rl_lr.controller import APART, LAW
from rl_lr.groups import begin
from rl_lr.rollout import split
from rl_lr.schedules import BaseSchedule
from rl_lr.sketches import Granularity

FACTORS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Base rates of every arm that has one, over the workload's centre."""


class Pilot(Protocol):
    """Sets the rates of runs: a policy, or what stands in for one. A new one flies every group."""

    def act(self, signals: Tensor) -> Tensor:
        """Actions ``[runs]`` for the signals of a decision, ``[runs, NUM_SIGNALS]``."""
        ...


@dataclass(frozen=True)
class Controlled:
    """A pilot over a base schedule, on the engine."""

    name: str
    """As tables call it."""
    pilot: Callable[[], Pilot]
    """Builds what flies one group of runs."""
    identity: str = ""
    """What the pilot was made of, beside the name: a policy's checksum."""
    schedule: BaseSchedule = "cosine"
    """Base schedule under it."""
    control: ControlConfig = field(default_factory=ControlConfig)
    """Constants of the control law."""
    factors: Sequence[float] = FACTORS
    """Base rates, over the centre."""
    granularity: Granularity = "network"
    """What has a rate of its own."""
    average: bool = False
    """Whether averaged weights are the result."""

    @property
    def facts(self) -> list[Any]:
        """All that its runs depend on beside the workload."""
        facts = [self.name, self.identity, self.schedule, asdict(self.control), list(self.factors), LOOKS]
        facts += [f"law {LAW}"] if math.isfinite(self.control.guard_ratio) else []  # schedules obey none
        facts += [] if self.granularity == "network" else [self.granularity, f"{APART} apart"]
        return [*facts, "averaged"] if self.average else facts

    def run(self, workload: Workload) -> list[Track]:
        """Every start of a workload."""
        begun, pilot, looks, decision = starts(workload, self.factors), self.pilot(), Looks(), 0
        parts = [
            begin(part, self.control, self.granularity, self.average)
            for part in split(drawn(workload, begun, self.schedule))
        ]
        rows = [part.rows for part in parts]
        look_every = max(1, self.control.decision_count // LOOKS)
        while not parts[0].done:
            actions = pilot.act(torch.cat([part.signals() for part in parts]))
            for part, own in zip(parts, actions.split(rows), strict=True):
                part.advance(own)
            decision += 1
            if decision % look_every == 0 or parts[0].done:
                losses, rates = (
                    torch.cat(seen) for seen in zip(*(part.look() for part in parts), strict=True)
                )
                looks.add(parts[0].step, losses, rates)
        initial, held_out = (
            torch.cat(seen)
            for seen in zip(*((p.initial_loss, p.held_out_loss()) for p in parts), strict=True)
        )
        return looks.tracks(begun, initial, held_out)

    def rows(self, tracks: Sequence[Track]) -> dict[str, list[Track]]:
        """One line; base rates that only the reference is tuned over are left out."""
        return {self.name: [one for one in tracks if one.factor in FACTORS]}
