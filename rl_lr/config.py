"""The constants of the control law, stored in every policy file."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ControlConfig:
    """How a policy's actions become learning rates. A policy is valid only for its own values."""

    step: float = 1.0
    """A: largest change of the offset by one decision, in nats."""
    bound: float = 8.0
    """B: largest absolute offset, in nats; exp(8) ≈ 2981."""
    warmup_fraction: float = 0.05
    """Share of the run spent in exponential warm-up."""
    warmup_floor: float = 1e-3
    """s(0), where warm-up starts, as a fraction of the base rate."""
    warmup_decisions: int = 12
    """Decisions inside the warm-up."""
    decisions: int = 44
    """Decisions over the rest of the run."""
    guard_ratio: float = 3.0
    """The guard cuts when a loss exceeds its starting level by this many times its size."""
    guard_cut: float = math.log(10.0)
    """What one guard event takes off the offset, in nats."""

    @property
    def decision_count(self) -> int:
        """Decisions in a run of at least as many steps."""
        return self.warmup_decisions + self.decisions
