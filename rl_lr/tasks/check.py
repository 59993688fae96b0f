"""Whether a task keeps the promises that training on it relies on."""

from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from rl_lr.config import ControlConfig
from rl_lr.engine import Engine, Objective, build_objective
from rl_lr.groups import begin
from rl_lr.rollout import Draw
from rl_lr.tasks import name_of, resolve
from rl_lr.tasks.task import Family, Fit, Task

_COMPARED = 14  # decisions of a fit: past its warm-up


def check(task: "str | Task | Fit | Family") -> None:
    """The contract of a task, for a test suite of your own::

        def test_my_task_keeps_its_promises():
            rl_lr.tasks.check.check(MyTask())

    Warns if its runs cannot be stacked, and says what that costs.

    Args:
        task: a task, the name or path of one, or a family, of which one is drawn.

    Raises:
        ValueError: in plain words, the first promise that is broken: rows in tensors of one length, a scalar
            loss, finite and above zero, a gradient for every parameter, and the same of everything under the same seed.
    """
    family = resolve(task)
    drawn = check_trainable(family)
    if not isinstance(drawn, Fit):
        _check_gradients(drawn)
        Engine(drawn, [0, 1])


def check_trainable(family: Family) -> "Task | Fit":
    """What a training looks at before it begins; gives back the task that it drew.

    Raises:
        ValueError: for rows that no batch can be drawn of, a loss that is no scalar, not finite, or not above zero at
            the initial weights, and whatever is not the same under the same seed.
    """
    drawn = family(np.random.default_rng(0))
    if not isinstance(drawn, (Task, Fit)):
        raise TypeError(
            f"The family {name_of(family)!r} gave {type(drawn).__name__} and no task: let it return one (see rl_lr.Task)."
        )
    if not isinstance(drawn, Fit):
        _check_rows(drawn)
        _check_loss(drawn)
    check_deterministic(family)
    return drawn


def check_deterministic(family: Family) -> None:
    """Draw a task twice from the same generator state and compare rows, weights and loss.

    Raises:
        ValueError: if they differ: what, and what to do.
    """
    first, second = (family(np.random.default_rng(0)) for _ in range(2))
    if isinstance(first, Fit) or isinstance(second, Fit):
        _check_fit(first)
        return
    rows = [[t[: first.batch_size] for t in task.data()] for task in (first, second)]
    if not _same(first.data(), second.data()):
        raise _not_deterministic(
            first, "data() returned other rows when it was called again", "a generator of its own"
        )
    objectives = [build_objective(task, seed=0) for task in (first, second)]
    weights = [list(objective.state_dict().values()) for objective in objectives]
    if not _same(*weights):
        raise _not_deterministic(
            first, "model() gave other weights under the same seed", "torch's global generator"
        )
    losses = [_loss(o, r) for o, r in zip(objectives, rows, strict=True)]
    if not _same(*losses):
        raise _not_deterministic(
            first, "loss() gave other values for the same weights and rows", "torch's global generator"
        )


def _check_fit(fit: Task | Fit) -> None:
    """Begin a fit twice under the same seed, and compare the signals of its first decisions."""
    drawn, control = Draw(fit, (0,), (1.0,), 0), ControlConfig()
    seen = []
    for _ in range(2):
        with closing(begin(drawn, control)) as group:
            rows = [group.signals()]
            for _ in range(_COMPARED):
                group.advance(torch.zeros(1))
                rows.append(group.signals())
        seen.append(rows)
    if not _same(*seen):
        raise _not_deterministic(
            fit, "two fits saw other losses or gradients under the same seed", "the global generators"
        )


def _check_rows(task: Task) -> None:
    """Rows to draw batches from."""
    data = task.data()
    if not isinstance(data, (tuple, list)):
        raise TypeError(
            f"Task {task.name!r} has data() that returns {type(data).__name__}: return a tuple of tensors, also of one."
        )
    lengths = sorted({len(tensor) for tensor in data})
    if len(lengths) != 1 or lengths[0] == 0:
        raise ValueError(
            f"Task {task.name!r} has tensors of {lengths or 'no'} rows: data() returns at least one row, in tensors that "
            f"all have as many."
        )
    if not isinstance(task.batch_size, int) or task.batch_size < 1:
        raise ValueError(
            f"Task {task.name!r} has batch_size {task.batch_size!r}: give a whole number of at least 1."
        )


def _check_loss(task: Task) -> None:
    """A loss that is finite at the start, and by whose logarithm runs can be told apart."""
    (loss,) = _loss(build_objective(task, seed=0), [rows[: task.batch_size] for rows in task.data()])
    if not loss.isfinite():
        raise ValueError(
            f"The loss of task {task.name!r} is {loss.item()} at the initial weights: rates cannot be told apart by it."
        )
    if not loss > 0.0:
        raise ValueError(
            f"The loss of task {task.name!r} is {loss.item():g} at the initial weights, and what runs came to is told by "
            f"their shares of it: add a constant that keeps it above zero."
        )


def _check_gradients(task: Task) -> None:
    """A loss that moves every parameter that is not frozen."""
    objective = build_objective(task, seed=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loss = objective(*(tensor[: task.batch_size] for tensor in task.data()))
    if not loss.requires_grad:
        raise ValueError(
            f"The loss of task {task.name!r} does not depend on the network in a way that can be differentiated: "
            f"compute it from the network's output, without detach() or item()."
        )
    named = {name: one for name, one in objective.named_parameters() if one.requires_grad}
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    unused = [name.removeprefix("model.") for name, one in zip(named, gradients, strict=True) if one is None]
    if unused:
        raise ValueError(
            f"Parameters of task {task.name!r} get no gradient: {', '.join(unused)}; use them in loss(), or leave "
            f"them out of the network."
        )


def _loss(objective: Objective, rows: list[Tensor]) -> list[Tensor]:
    """Of the first rows, in training mode, under a seed."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        return [objective(*rows)]


def _same(first: "list[Tensor] | tuple[Tensor, ...]", second: "list[Tensor] | tuple[Tensor, ...]") -> bool:
    """Whether two lists hold the same tensors; NaN equals NaN."""
    pairs = zip(first, second, strict=False)
    return len(first) == len(second) and all(
        a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs
    )


def _not_deterministic(task: Task | Fit, what: str, source: str) -> ValueError:
    return ValueError(
        f"Task {task.name!r} is not deterministic: {what}, so no training on it could be made again or resumed; "
        f"draw its random numbers from {source}, freshly seeded."
    )
