"""Training across runs: a policy is learned from thousands of short trainings and exported."""

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rl_lr.agents import Agent, Figures, build
from rl_lr.card import model_card
from rl_lr.config import TrainConfig
from rl_lr.episodes import Plan, play
from rl_lr.mean_policy import mean_policy
from rl_lr.policy import Policy, PolicyFileError
from rl_lr.policy_files import write_atomically
from rl_lr.provenance import command, commit, versions
from rl_lr.resume import Progress, check_same, load, save
from rl_lr.starting import best_policy, starting_point
from rl_lr.tasks import Family, Fit, Task, name_of, resolve
from rl_lr.tasks.check import check_deterministic
from rl_lr.tasks.families import TRAINING, Weighted
from rl_lr.validation import Validation
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
        ValueError: if there is no task, or one that is not deterministic or cannot be sent to
            the workers; if there is nothing to resume, or something else than that.
    """
    out, workers = Path(out), workers or Local()
    begun, state, first = _begin(out, tasks, config, resume, start)
    tasks, config = (begun.tasks or None) if resume and not tasks else tasks, begun.config
    plan = Plan(_families(tasks), config.draw, config.control, config.group_size, config.seed)
    _check_tasks(tasks)
    with closing(workers):
        workers.start(plan)
        out.mkdir(parents=True, exist_ok=True)
        agent = build(config, out, begun.iterations, first)
        if state is not None:
            agent.load_state_dict(state)
        members = _members(out, begun) or [agent.policy({}, str(out))]
        validation, figures = Validation(plan, workers, config.validation_groups), Figures()
        origin, clock = _origin(begun, tasks), time.monotonic() - 60 * begun.minutes
        if first is not None and not begun.iterations:
            measured = _progress(config, 0, 0.0, _validate(agent, validation, first))
            replace(first, provenance=origin | measured).save(_checkpoint(out, 0))
        for done in range(begun.iterations + 1, config.total_iterations + 1):
            if done > len(members) * config.iterations:
                agent = build(config, out, done - 1)
                members.append(agent.policy({}, str(out)))
            figures |= _iterate(agent, workers, done - 1)
            members[-1] = agent.policy({}, str(out))
            last = done == config.total_iterations or (should_stop is not None and should_stop())
            due = config.validate_every and (last or done % config.validate_every == 0)
            measured = _validate(agent, validation, mean_policy(members)) if due else {}
            agent.curves.write(done)
            minutes = (time.monotonic() - clock) / 60
            members[-1] = replace(members[-1], provenance=origin | _progress(config, done, minutes, measured))
            _keep(out, agent, members[-1], replace(begun, iterations=done, minutes=minutes))
            figures |= measured
            if progress is not None:
                progress(done, figures)
            if last:
                break
    policy = mean_policy(members) if first is None else best_policy(_checkpoints(out, done), str(out))
    policy.save(out)
    write_atomically({out / "README.md": model_card(policy).encode()})
    return policy


def _begin(
    out: Path,
    tasks: "Sequence[str | Task | Fit | Family] | None",
    config: TrainConfig | None,
    resume: bool,
    start: "str | Policy | None",
) -> tuple[Progress[TrainConfig], dict[str, Any] | None, Policy | None]:
    """Where a training stands, the agent's state if it is taken up again, and the policy that it began from."""
    if not resume:
        first, config = starting_point(start, config or TrainConfig())
        return Progress(config, _names(tasks), 0, 0.0, first.sha256 if first else ""), None, first
    begun, state = load(out)
    check_same(begun, config or begun.config, _names(tasks) if tasks else begun.tasks)
    return begun, state, Policy.load(_checkpoint(out, 0)) if begun.start else None


def _iterate(agent: Agent, workers: Workers, iteration: int) -> Figures:
    """One iteration: a whole episode of every group, then the update."""
    began = time.monotonic()
    episodes = workers.map(play, agent.orders(iteration))
    played = time.monotonic() - began
    figures = agent.update(episodes, iteration)
    steps = sum(episode.steps * episode.log_base_lr.size for episode in episodes)
    decisions = sum(episode.rewards.size for episode in episodes)
    figures |= {
        "engine_steps_per_second": steps / played,
        "decisions_per_second": decisions / (time.monotonic() - began),
    }
    agent.curves.log("rollout", figures)
    agent.curves.show_actions(episodes)
    return figures


def _validate(agent: Agent, validation: Validation, policy: Policy) -> Figures:
    """Measure the policy on runs kept apart."""
    measured = validation.measure(policy)
    agent.curves.log("validation", measured)
    return measured


def _families(tasks: "Sequence[str | Task | Fit | Family] | None") -> Weighted:
    """What every group of runs draws its task from."""
    families = TRAINING if tasks is None else tuple((resolve(task), 1.0) for task in tasks)
    if not families:
        raise ValueError(
            "No task to train on: name at least one, or leave tasks out for the built-in families."
        )
    return families


def _check_tasks(tasks: "Sequence[str | Task | Fit | Family] | None") -> None:
    """Refuse tasks under which a training could not be made again."""
    for task in tasks or ():
        check_deterministic(resolve(task))


def _members(out: Path, begun: Progress[TrainConfig]) -> list[Policy]:
    """The last policy of every member that a training began with."""
    each, done = begun.config.iterations, begun.iterations
    last = [*range(each, done, each), *([done] if done else [])]
    return [Policy.load(_checkpoint(out, iteration)) for iteration in last]


def _checkpoints(out: Path, done: int) -> list[Policy]:
    """The policy of every iteration that was kept, from the one that the training began from."""
    folders = (_checkpoint(out, iterations) for iterations in range(done + 1))
    return [Policy.load(folder) for folder in folders if folder.is_dir()]


def _checkpoint(out: Path, iterations: int) -> Path:
    return out / "checkpoints" / f"{iterations:05d}"


def _keep(out: Path, agent: Agent, policy: Policy, progress: Progress[TrainConfig]) -> None:
    """Write checkpoint and state; a disk that is full now may not be after the next iteration."""
    try:
        policy.save(_checkpoint(out, progress.iterations))
        save(out, progress, agent.state_dict())
    except (OSError, PolicyFileError) as error:
        warnings.warn(
            f"Iteration {progress.iterations} could not be saved in {out} ({error}): the last one that "
            f"was stays good, and training goes on; make room before it ends.",
            stacklevel=3,
        )


def _names(tasks: "Sequence[str | Task | Fit | Family] | None") -> list[str]:
    return [name_of(task) for task in tasks or ()]


def _origin(
    begun: Progress[TrainConfig], tasks: "Sequence[str | Task | Fit | Family] | None"
) -> dict[str, Any]:
    """What is known of a policy before its training begins."""
    return {
        "agent": f"{begun.config.agent.upper()} (stable-baselines3)",
        "start": begun.start,
        "command": command(),
        "commit": commit(),
        "tasks": _names(tasks) or "built-in training families",
        "settings": asdict(begun.config),
        "versions": versions(),
    }


def _progress(config: TrainConfig, iterations: int, minutes: float, measured: Figures) -> dict[str, Any]:
    """What training has come to."""
    return {
        "iterations": iterations,
        "runs": iterations * config.runs,
        "minutes": round(minutes, 1),
        "validation": {name: round(value, 4) for name, value in measured.items()},
    }
