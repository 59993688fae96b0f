"""Runs that were made once, in one file: a comparison goes on where it stopped, and references are shared."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rl_lr.compare.runs import Arm, Track
from rl_lr.compare.workloads import TaskWithRowsApart, Workload
from rl_lr.config import ControlConfig
from rl_lr.engine import build_objective
from rl_lr.json_lines import append, whole_lines
from rl_lr.rollout import Draw
from rl_lr.tasks.task import Fit
from rl_lr.tasks.tensors import TensorTask

_LOOKED_AT = 64  # rows whose loss and gradients tell what code a task has


@dataclass(frozen=True)
class Made:
    """All runs of an arm on a workload."""

    seconds: float
    """What they took, on one core."""
    tracks: tuple[Track, ...]
    """From every start."""


class Store:
    """A file of JSON lines, one for the runs of an arm on a workload, under a digest of what they depend on.

    Args:
        path: of the file; made with its folder if missing. A last line that was cut off is dropped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._made: dict[str, Made] = {}
        for number, line in enumerate(whole_lines(path), start=1):
            try:
                row = json.loads(line)
                self._made[row["key"]] = _read(row)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"Line {number} of {path} is damaged ({type(error).__name__}): delete it, and its runs are made again."
                ) from error

    def __contains__(self, key: str) -> bool:
        """Whether it was made."""
        return key in self._made

    def __getitem__(self, key: str) -> Made:
        """What was made under a key."""
        return self._made[key]

    def add(self, key: str, workload: Workload, arm: Arm, made: Made) -> None:
        """Keep what was made."""
        steps = made.tracks[0].steps  # an arm looks at all its runs at the same times
        tracks = [
            {name: value for name, value in asdict(track).items() if name != "steps"} for track in made.tracks
        ]
        row = {"key": key, "workload": workload.name, "arm": arm.name, "seconds": made.seconds}
        append(self.path, row | {"steps": steps, "tracks": tracks})
        self._made[key] = made


def _read(row: dict[str, Any]) -> Made:
    tracks = [track | {"steps": row["steps"]} for track in row["tracks"]]
    curves = ("steps", "losses", "rates")
    return Made(
        row["seconds"], tuple(Track(**one | {name: tuple(one[name]) for name in curves}) for one in tracks)
    )


def keys(workload: Workload, arms: Sequence[Arm]) -> list[str]:
    """For each arm, a digest of everything that its runs on a workload depend on."""
    task, digest = workload.task, hashlib.sha256()
    made_of, tensors = _of_fit(task) if isinstance(task, Fit) else _of_task(task)
    facts = {
        "task": made_of,
        "runs": [workload.steps, workload.seeds],
        "versions": [version("rl-lr"), torch.__version__],
    }
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    found = []
    for arm in arms:
        own = digest.copy()
        own.update(json.dumps(arm.facts, sort_keys=True).encode())
        found.append(own.hexdigest()[:16])
    return found


def _of_task(task: TaskWithRowsApart) -> tuple[list[Any], list[Tensor]]:
    """What defines a task: settings, rows and initial weights."""
    objective = build_objective(task, seed=0)
    settings = [task.name, asdict(task.optimizer), task.batch_size]
    tensors = [*task.data(), *task.held_out, *objective.state_dict().values()]
    if not isinstance(task, TensorTask):  # somebody's own, whose code may be another the next time
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            loss = objective(*(rows[:_LOOKED_AT] for rows in task.data()))
        trained = [one for one in objective.parameters() if one.requires_grad]
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        tensors += [loss.detach(), *(one for one in gradients if one is not None)]
    return settings, tensors


def _of_fit(fit: Fit) -> tuple[list[Any], list[Tensor]]:
    """What is known of a fit without running it: its first signals tell of weights and data."""
    with closing(fit.begin(Draw(fit, (0,), (1.0,), fit.horizon()), ControlConfig())) as group:
        seen = [group.signals()]
        for _ in range(3):
            group.advance(torch.zeros(1))
            seen.append(group.signals())
    return [fit.name, fit.horizon()], seen
