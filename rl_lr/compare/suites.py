"""The three suites: what a policy trained on, what policies are chosen by, and what neither ever saw."""

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from rl_lr.compare.workloads import Workload, held_out
from rl_lr.tasks.choosing import CHOOSING
from rl_lr.tasks.families import TRAINING, Weighted
from rl_lr.tasks.tensors import TensorTask

Suite = Literal["heldout", "validation", "train-families"]

DRAWS = 7
"""Tasks that policies are chosen by, from each family: with three, a policy that loses runs looked safe."""

TRAINING_DRAWS = 3
"""The same of the families that policies train on."""


def suite(name: Suite) -> list[Workload]:
    """The workloads of a suite, always the same.

    Args:
        name: ``"train-families"``, unseen instances of what policies train on; ``"validation"``,
            other families, for choosing between policies; ``"heldout"``, used for neither.
    """
    if name == "heldout":
        return held_out()
    return _drawn(CHOOSING, DRAWS) if name == "validation" else _drawn(TRAINING, TRAINING_DRAWS)


def _drawn(families: Weighted, draws: int) -> list[Workload]:
    workloads = []
    for index, (family, _) in enumerate(families):
        for draw in range(draws):
            rng = np.random.default_rng([2**20, index, draw])  # far from the seeds of any training
            steps = round(math.exp(rng.uniform(math.log(300), math.log(3000))))
            task = family(rng)
            assert isinstance(task, TensorTask)
            workloads.append(Workload(_with_rows_apart(task, f"{task.name} {draw + 1}"), steps, seeds=1))
    return workloads


def _with_rows_apart(task: TensorTask, name: str, share: float = 0.8) -> TensorTask:
    """The task on a share of its rows; no run trains on the others."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(task.tensors[0])))
    cut = round(share * len(order))
    kept, apart = (tuple(t[rows] for t in task.tensors) for rows in (order[:cut], order[cut:]))
    return replace(task, name=name, tensors=kept, held_out=apart)
