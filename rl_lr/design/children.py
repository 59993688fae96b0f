"""Children: designs trained under the learning-rate policy on the engine, judged on rows kept apart, and kept."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic

from rl_lr.controller import LAW
from rl_lr.design.problems import D, Part, Problem
from rl_lr.json_lines import append, whole_lines
from rl_lr.policy import Policy
from rl_lr.rollout import Draw, Rollout


@dataclass(frozen=True)
class Training:
    """How a child is trained."""

    steps: int = 120
    """Optimizer steps."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of its runs, which are stepped as one stack: initial weights and mini-batches."""
    policy: str = "default"
    """Name or folder of the policy that sets their rates."""

    def __post_init__(self) -> None:
        """Refuse what trains nothing."""
        if self.steps < 1 or not self.seeds:
            raise ValueError(
                f"A child is trained for at least one step and on one seed, got {self.steps} steps and "
                f"{len(self.seeds)} seeds."
            )


@dataclass(frozen=True)
class Child:
    """A design that was judged."""

    design: str
    """Its string form."""
    losses: tuple[float, ...]
    """Of each seed on the rows kept apart; NaN if the run was lost."""
    reward: float
    """Mean over the seeds, 0 to 1."""


class Judge(Generic[D]):
    """Trains designs and keeps what came of them; a design that was judged is never trained again.

    A result depends on design and settings alone, not on what was judged before, so several searches may
    share a judge, and a search that is made again over the same file ends the same.

    Attributes:
        problem: what designs are judged on.
        trained: how many designs this judge has trained itself.

    Args:
        problem: what designs are judged on.
        training: how they are trained.
        path: of a file of JSON lines that keeps results, the settings first; made if missing.
            None keeps them in memory.
        part: which rows judge.

    Raises:
        ValueError: if the file keeps results of other settings, or is none of ours.
    """

    def __init__(
        self,
        problem: Problem[D],
        training: Training | None = None,
        path: Path | None = None,
        part: Part = "selection",
    ) -> None:
        self.problem, self._training, self._part, self._path = problem, training or Training(), part, path
        self._policy = Policy.load(self._training.policy)
        self._children: dict[str, Child] = {}
        self.trained = 0
        if path is not None:
            self._open(path)

    @property
    def settings(self) -> dict[str, Any]:
        """All that a result depends on beside the design."""
        training = asdict(self._training) | {"policy": self._policy.sha256, "law": LAW}
        flat = {**self.problem.facts, **training, "part": self._part, "torch": version("torch")}
        settings: dict[str, Any] = json.loads(json.dumps(flat))
        return settings

    def __call__(self, design: D) -> Child:
        """Train the design, or look it up."""
        name = str(design)
        if name not in self._children:
            self._keep(name, self._train(design))
        return self._children[name]

    def _train(self, design: D) -> list[float]:
        task, seeds = self.problem.task(design, self._part), self._training.seeds
        runs = Rollout(
            Draw(task, seeds, (task.optimizer.lr,) * len(seeds), self._training.steps), self._policy.control
        )
        while not runs.done:
            runs.advance(self._policy.act(runs.signals()))
        self.trained += 1
        losses: list[float] = runs.held_out_loss().tolist()
        return losses

    def _keep(self, name: str, losses: list[float]) -> None:
        if self._path is not None:
            finite = [loss if math.isfinite(loss) else None for loss in losses]
            append(self._path, {"design": name, "losses": finite})
        self._children[name] = self._child(name, losses)

    def _child(self, name: str, losses: list[float]) -> Child:
        rewards = [self.problem.reward(loss) if math.isfinite(loss) else 0.0 for loss in losses]
        return Child(name, tuple(losses), sum(rewards) / len(rewards))

    def _open(self, path: Path) -> None:
        """Read what the file keeps; a last line that was cut off is dropped."""
        whole = whole_lines(path)
        if not whole:
            path.parent.mkdir(parents=True, exist_ok=True)
            append(path, {"settings": self.settings})
            return
        rows = _rows(path, whole)
        _check_same(path, rows[0].get("settings", {}), self.settings)
        for row in rows[1:]:
            losses = [math.nan if loss is None else loss for loss in row["losses"]]
            self._children[row["design"]] = self._child(row["design"], losses)


def _rows(path: Path, lines: list[str]) -> list[dict[str, Any]]:
    parse: Callable[[str], Any] = json.loads
    try:
        rows = [parse(line) for line in lines]
        valid = "settings" in rows[0] and all({"design", "losses"} <= set(row) for row in rows[1:])
    except (ValueError, TypeError):
        valid = False
    if not valid:
        raise ValueError(
            f"{path} keeps no results of designs: it is damaged or another file; name a new one."
        )
    return rows


def _check_same(path: Path, was: dict[str, Any], settings: dict[str, Any]) -> None:
    for name in dict.fromkeys((*settings, *was)):
        if was.get(name) != settings.get(name):
            raise ValueError(
                f"{path} keeps results of other settings ({name} was {was.get(name)}, now {settings.get(name)}): "
                f"take these settings again, or another folder."
            )
