"""Training across runs: a policy is learned from thousands of short trainings and exported."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rl_lr.agents import Figures
from rl_lr.card import BUILT_IN_TASKS, model_card
from rl_lr.config import TrainConfig
from rl_lr.course import Beginning, Course
from rl_lr.episodes import Plan
from rl_lr.policy import Policy
from rl_lr.policy_files import write_atomically
from rl_lr.process import compute_portably
from rl_lr.resume import STATE_FILE, Progress, check_same, checkpoint, load
from rl_lr.starting import starting_point
from rl_lr.tasks import Family, Fit, Task, name_of, resolve
from rl_lr.tasks.check import check_trainable
from rl_lr.tasks.families import TRAINING
from rl_lr.tasks.ingredients import Weighted
from rl_lr.tasks.named import BUILT_IN
from rl_lr.workers import Local, Workers

Report = Callable[[int, Figures], None]
"""Told the number of iterations done and the latest figures, after each one."""


def train(
    out: str | Path,
    tasks: "Sequence[str | Task | Fit | Family] | None" = None,
    config: TrainConfig | None = None,
    progress: Report | None = None,
    should_stop: Callable[[], bool] | None = None,
    resume: bool = False,
    workers: Workers | None = None,
    start: str | Policy | None = None,
) -> Policy:
    """Train a policy and export it into ``out``.

    The folder receives ``model.safetensors``, ``config.json`` and ``README.md`` (the policy),
    ``tensorboard/`` (curves of the training), ``checkpoints/`` (the policy of every iteration) and
    ``training.pt`` (what it needs to go on after a crash, from the last complete iteration).

    Args:
        out: folder of the result; made if missing.
        tasks: what to train on, each as likely as the others: tasks, families, or names
            (:func:`rl_lr.tasks.named.named`); None for the built-in families.
        config: the agent, sizes, seeds and settings.
        progress: called after every iteration with the number of iterations done and the latest figures, by name.
        should_stop: asked after every iteration; True makes it the last.
        resume: go on with the training in ``out``; tasks and settings are those it began with,
            and the result is that of a training that was never stopped, bit for bit.
        workers: where episodes are played, from :mod:`rl_lr.workers`; None for this process. The
            policy is the same, bit for bit, wherever that is.
        start: a policy that PPO begins from, or its name or folder; None to begin from nothing. A training
            that is resumed began from what it began from.

    Returns:
        The policy of the last iteration; with several members, the mean of the last of each. If it began from a
        policy, the best on the runs kept apart, of those measured; the one that it began from is among them.

    Raises:
        ValueError: if there is no task, or one that breaks its promises (:mod:`rl_lr.tasks.check`) or cannot be sent
            to the workers; if the folder holds a training that is not to be resumed, if there is nothing to resume, or
            something else than that; if it is to be portable, and this process cannot be.
        TypeError: if ``tasks`` is no list, or a family gives something else than a task.
    """
    out, workers = Path(out), workers or Local()
    if isinstance(tasks, str) or not isinstance(tasks, Sequence | None):
        raise TypeError(f"tasks is {name_of(tasks)!r}: pass a list, also of one task.")
    begun = _begin(out, tasks, config, resume, start)
    config = begun.progress.config
    if config.portable:
        compute_portably()
    tasks = (begun.progress.tasks or None) if resume and not tasks else tasks
    try:
        families = _families(tasks)
    except ValueError as error:
        if not resume:
            raise
        raise ValueError(f"{error} The training was begun with it: pass the same tasks again.") from error
    plan = _plan(families, config)
    for family, _ in families if tasks else ():
        check_trainable(family)
    with closing(workers):
        workers.start(plan)
        out.mkdir(parents=True, exist_ok=True)
        course = Course(out, begun, plan, workers)
        for done in range(begun.progress.iterations + 1, config.total_iterations + 1):
            course.learn(done)
            last = done == config.total_iterations or (should_stop is not None and should_stop())
            figures = course.keep(done, last)
            if progress is not None:
                progress(done, figures)
            if last:
                break
    policy = course.policy()
    policy.save(out)
    write_atomically({out / "README.md": model_card(policy).encode()})
    return policy


def _begin(
    out: Path,
    tasks: "Sequence[str | Task | Fit | Family] | None",
    config: TrainConfig | None,
    resume: bool,
    start: "str | Policy | None",
) -> Beginning:
    """From nothing, from a policy, or where the training in the folder stands."""
    names = [name_of(task) for task in tasks or ()]
    if not resume and (out / STATE_FILE).exists():
        raise ValueError(
            f"{out} holds a training already: go on with it by --resume {out} (resume=True), or name another folder."
        )
    if not resume:
        first, config = starting_point(start, config or TrainConfig())
        begun = Progress(config, names, 0, 0.0, first.sha256 if first else "")
        return Beginning(begun, None, first, _origin(begun))
    begun, state = load(out)
    check_same(begun, config or begun.config, names or begun.tasks)
    return Beginning(begun, state, Policy.load(checkpoint(out, 0)) if begun.start else None, _origin(begun))


def _families(tasks: "Sequence[str | Task | Fit | Family] | None") -> Weighted:
    """What every group of runs draws its task from."""
    families = TRAINING if tasks is None else tuple((resolve(task), 1.0) for task in tasks)
    if not families:
        raise ValueError(
            "No task to train on: name at least one, or leave tasks out for the built-in families."
        )
    return families


def _plan(families: Weighted, config: TrainConfig) -> Plan:
    """What the episodes of such a training share."""
    return Plan(
        families,
        config.draw,
        config.control,
        config.group_size,
        config.seed,
        averaged=config.averaged,
        portable=config.portable,
    )


def _origin(begun: Progress[TrainConfig]) -> dict[str, Any]:
    """What is known of a policy before its training begins."""
    return {
        "agent": f"{begun.config.agent.upper()} (stable-baselines3)",
        "start": begun.start,
        "tasks": BUILT_IN_TASKS if begun.tasks in ([], [BUILT_IN]) else begun.tasks,
        "settings": asdict(begun.config),
        **begun.origin,
    }
