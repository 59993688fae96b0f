"""Settings of learning by unrolled runs."""

from dataclasses import dataclass, field
from typing import Literal

from rl_lr.coordinate.network import NetworkSpec

_POSITIVE = ("iterations", "groups", "group_size", "steps", "truncation", "validation_runs")


@dataclass(frozen=True)
class UnrollConfig:
    """What a policy that sets a step for every coordinate is trained with (``rl-lr train --agent unroll``)."""

    learning_rates: tuple[float, ...] = (5e-3,)
    """Step sizes of Adam, each of a member of its own, trained one after the other; each falls linearly to a
    twentieth. The result is the best policy of all that were measured."""
    iterations: int = 40
    """Of each member."""
    groups: int = 25
    """Tasks in an iteration, one after the other."""
    group_size: int = 8
    """Runs of each task, each of weights and mini-batches of its own."""
    steps: int = 100
    """Optimizer steps of a run."""
    truncation: int = 20
    """Steps that a gradient goes back through, and after which the network moves."""
    objective: Literal["log", "loss"] = "log"
    """What is lowered, mean over an unroll: ``"log"``, the log of the runs' mean loss, or ``"loss"``, that loss over the
    one at the start, as in the paper. The first goes on telling good from better when losses are small."""
    second_order: bool = False
    """Whether the gradient goes through the runs' own gradients, too; in the paper it does not."""
    network: NetworkSpec = field(default_factory=NetworkSpec)
    """The network that is trained."""
    clip_norm: float = 1.0
    """Longest gradient of the network; a longer one is scaled down to this norm."""
    max_bytes: float = 2e9
    """What an unroll may keep in memory; one that would keep more is shortened, with a warning."""
    validate_every: int = 1
    """Iterations between measurements on runs kept apart; the last one of a member is always measured."""
    validation_runs: int = 64
    """Runs that are kept apart for measuring, and choosing the best by."""
    seed: int = 0
    """Of tasks, runs and networks."""

    def __post_init__(self) -> None:
        """Refuse what no training could be made of."""
        for name in (*_POSITIVE, "validate_every"):
            count = getattr(self, name)
            if type(count) is not int or count < 1:
                raise ValueError(f"UnrollConfig.{name} is {count!r}: it must be a whole number, at least 1.")
        if not self.learning_rates or not all(rate > 0.0 for rate in self.learning_rates):
            raise ValueError(
                f"UnrollConfig.learning_rates is {self.learning_rates}: give at least one positive step size."
            )
        if not (self.clip_norm > 0.0 and self.max_bytes > 0.0):
            raise ValueError(
                f"UnrollConfig.clip_norm is {self.clip_norm} and max_bytes {self.max_bytes}: both must be positive."
            )
        if self.truncation > self.steps or self.steps % self.truncation:
            raise ValueError(
                f"UnrollConfig.truncation is {self.truncation} and steps {self.steps}: a run must be whole unrolls, "
                f"choose a truncation that divides the steps."
            )
        if self.objective not in ("log", "loss"):
            raise ValueError(f"UnrollConfig.objective is {self.objective!r}: choose 'log' or 'loss'.")

    @property
    def total_iterations(self) -> int:
        """Of all members."""
        return len(self.learning_rates) * self.iterations
