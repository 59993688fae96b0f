"""Tasks: what is trained. The protocol, families that train the policy, and real data."""

from rl_lr.tasks.real import REAL, real_task
from rl_lr.tasks.task import Family, Task
from rl_lr.tasks.tensors import TensorTask

__all__ = ["REAL", "Family", "Task", "TensorTask", "real_task", "resolve"]


def resolve(task: "str | Task | Family") -> Family:
    """Turn what a person names into a family: a name, a task (always itself) or a family.

    Raises:
        ValueError: for an unknown name.
        TypeError: for an object that is neither a task nor a function.
    """
    if isinstance(task, str):
        fixed = real_task(task)
        return lambda rng: fixed
    if isinstance(task, Task):
        return lambda rng: task
    if callable(task):
        return task
    raise TypeError(
        f"A task has name, optimizer, batch_size, model(), data() and loss(); got {type(task).__name__}: "
        f"pass such an object, a function from a random generator to one, or a name ({', '.join(REAL)})."
    )
