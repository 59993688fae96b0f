"""Tasks: what is trained. The protocol, families that train the policy, and real data."""

from dataclasses import dataclass

import numpy as np

from rl_lr.tasks.named import named
from rl_lr.tasks.real import REAL, real_task
from rl_lr.tasks.task import Family, Fit, Task
from rl_lr.tasks.tensors import TensorTask, tensor_task

__all__ = ["REAL", "Family", "Fit", "Task", "TensorTask", "name_of", "real_task", "resolve", "tensor_task"]


@dataclass(frozen=True)
class Always:
    """The family of a single task."""

    task: Task | Fit
    """What every draw gives."""

    def __call__(self, rng: np.random.Generator) -> Task | Fit:
        """The task, whatever the generator."""
        return self.task


def name_of(task: "str | Task | Fit | Family") -> str:
    """What a person would call it.

    >>> from rl_lr.tasks.families import quadratic
    >>> name_of(quadratic), name_of("digits-mlp"), name_of(resolve("digits-mlp"))
    ('quadratic', 'digits-mlp', 'digits-mlp')
    """
    if isinstance(task, str):
        return task
    if isinstance(task, Always):
        task = task.task
    return str(getattr(task, "name", getattr(task, "__name__", type(task).__name__)))


def resolve(task: "str | Task | Fit | Family") -> Family:
    """Turn what a person names into a family: a name (:func:`rl_lr.tasks.named.named`), a task, a fit or a family.

    Raises:
        ValueError: for a name that means no task.
        TypeError: for an object that is neither a task, a fit, nor a function.
    """
    if isinstance(task, str):
        return resolve(named(task))
    if isinstance(task, type):
        task = task()  # a task's own class, as the command line takes it
    if isinstance(task, (Task, Fit)):
        return Always(task)
    if callable(task):
        return task
    raise TypeError(
        f"A task has name, optimizer, batch_size, model(), data() and loss(); got {type(task).__name__}: "
        f"pass such an object, a function from a random generator to one, or a name ({', '.join(REAL)})."
    )
