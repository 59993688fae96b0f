"""Tasks by name: on real data, of installed packages, or by the path of a Python object."""

import importlib
import inspect
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from rl_lr.tasks.real import REAL, real_task
from rl_lr.tasks.task import Family, Fit, Task

GROUP = "rl_lr.tasks"
"""Group of entry points under which packages offer tasks: ``name = "package.module:object"``."""

BUILT_IN = "built-in"
"""Name of the mixture of families that the default policy trains on."""


def named(name: str) -> "Task | Fit | Family":
    """What a name means.

    Either a task on real data (:data:`rl_lr.tasks.real.REAL`), :data:`BUILT_IN`, the name of an entry point in the
    group :data:`GROUP`, or ``"package.module:object"``: a task or a fit, a class or function without arguments that
    makes one, or a family. Modules are looked for in the current folder, too.

    Raises:
        ValueError: if it means nothing, cannot be imported, or is something else.
    """
    if name in REAL:
        return real_task(name)
    if name == BUILT_IN:
        from rl_lr.tasks.families import mixture  # which need the tasks

        return mixture
    if ":" in name:
        return _made(name, _imported(name))
    offered = {one.name: one for one in entry_points(group=GROUP)}
    if name in offered:
        return _made(name, _imported(offered[name].value))
    known = ", ".join([*REAL, BUILT_IN, *offered])
    raise ValueError(
        f"There is no task {name!r}: choose one of {known}, give the path of your own, package.module:name, or "
        f"pass a Task object."
    )


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # for good: worker processes, which inherit it, import the task again
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # user code
        raise ValueError(
            f"The task {path!r} cannot be imported ({type(error).__name__}: {error}): give package.module:name of "
            f"something that `import` finds from this folder."
        ) from error


def _made(name: str, found: Any) -> "Task | Fit | Family":
    """The task itself, the one that a class or function without arguments makes, or a family."""
    if isinstance(found, (Task, Fit)) and not isinstance(found, type):
        return found
    if not callable(found):
        raise _no_task(name, type(found).__name__)
    if not _needs_nothing(found):
        return cast("Family", found)  # it takes a generator
    try:
        made = found()
    except Exception as error:  # user code
        raise ValueError(
            f"The task {name!r} could not be made ({type(error).__name__}: {error}): it is called without arguments."
        ) from error
    if not isinstance(made, (Task, Fit)):
        raise _no_task(name, f"a {type(made).__name__}, made by calling it,")
    return made


def _needs_nothing(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return all(
        one.default is not one.empty or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        for one in parameters
    )


def _no_task(name: str, what: str) -> ValueError:
    return ValueError(
        f"{name!r} is {what} and no task: a task has name, optimizer, batch_size, model(), data() and loss() "
        f"(see rl_lr.Task)."
    )
