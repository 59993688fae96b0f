"""Runs that were made once, on disk: a comparison goes on where it stopped, and references are shared."""

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from rl_lr.compare.arms import Arm
from rl_lr.compare.runs import Track
from rl_lr.compare.workloads import Workload
from rl_lr.engine import build_objective
from rl_lr.policy import write_atomically


class Store:
    """A folder of JSON files, one for the runs of an arm on a workload.

    Args:
        folder: made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, workload: Workload, arm: Arm) -> bool:
        """Whether these runs were made."""
        return self._path(workload, arm).is_file()

    def load(self, workload: Workload, arm: Arm) -> list[Track]:
        """The runs as they were made."""
        rows: list[dict[str, Any]] = json.loads(self._path(workload, arm).read_text())
        curves = ("steps", "losses", "rates")
        return [Track(**row | {name: tuple(row[name]) for name in curves}) for row in rows]

    def make(self, workload: Workload, arm: Arm) -> None:
        """Make the runs, and keep them."""
        rows = [asdict(track) for track in arm.run(workload)]
        write_atomically({self._path(workload, arm): json.dumps(rows).encode()})

    def _path(self, workload: Workload, arm: Arm) -> Path:
        words = "-".join("".join(c if c.isalnum() else " " for c in f"{workload.name} {arm.name}").split())
        return self.folder / f"{words}-{_key(workload, arm)}.json"


def _key(workload: Workload, arm: Arm) -> str:
    """A digest of everything that the runs depend on."""
    task, digest = workload.task, hashlib.sha256()
    facts = {
        "task": [task.name, asdict(task.optimizer), task.batch_size],
        "runs": [workload.steps, workload.seeds, list(arm.factors)],
        "arm": [arm.name, arm.identity, arm.schedule, asdict(arm.control)],
        "versions": [version("rl-lr"), torch.__version__],
    }
    digest.update(json.dumps(facts, sort_keys=True).encode())
    weights = build_objective(task, seed=0).state_dict()
    for tensor in (*task.tensors, *task.held_out, *weights.values()):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
