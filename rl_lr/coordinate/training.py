"""Training a coordinate-wise policy: the loop, and the folder that it fills, as :mod:`rl_lr.training` does."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rl_lr.coordinate.card import coordinate_card
from rl_lr.coordinate.config import UnrollConfig
from rl_lr.coordinate.curves import Curves
from rl_lr.coordinate.learner import Figures, Learner
from rl_lr.coordinate.policy import CoordinatePolicy
from rl_lr.coordinate.tasks import quadratics
from rl_lr.coordinate.unroll import Runs, check_twice_differentiable
from rl_lr.engine import Engine
from rl_lr.policy_files import PolicyFileError, write_atomically
from rl_lr.resume import Progress, check_same, checkpoint, load_unrolled, save
from rl_lr.tasks import Family, Fit, Task, name_of, resolve
from rl_lr.tasks.check import check_deterministic
from rl_lr.tasks.task import steppable

Report = Callable[[int, Figures], None]
"""Told the number of iterations done and the latest figures, after each one."""

_DRAWING, _VALIDATION = 2, 3  # streams of seeds, beside those of the learner
_DEFAULT_TASK = "the paper's quadratics"
_LOST = 1e9  # what a network is measured as that blows up its runs


def train(
    out: str | Path,
    tasks: "Sequence[str | Task | Family] | None" = None,
    config: UnrollConfig | None = None,
    progress: Report | None = None,
    should_stop: Callable[[], bool] | None = None,
    resume: bool = False,
) -> CoordinatePolicy:
    """Train a policy that sets a step for every coordinate, and export it into ``out``.

    The folder is laid out as that of :func:`rl_lr.train`: the policy with its card, ``tensorboard/``,
    ``checkpoints/`` (the policy of every iteration) and ``training.pt``.

    Args:
        out: folder of the result; made if missing.
        tasks: what to train on, one after the other: tasks, families, or names (:func:`rl_lr.tasks.named.named`);
            None for the paper's quadratics.
        config: sizes, seeds and settings.
        progress: called after every iteration with the number of iterations done and the latest figures, by name.
        should_stop: asked after every iteration; True makes it the last.
        resume: go on with the training in ``out``; tasks and settings are those it began with, and the result is
            that of a training that was never stopped, bit for bit.

    Returns:
        The policy of lowest final loss on the runs kept apart, of those measured.

    Raises:
        ValueError: if there is no task, or one that is not deterministic or, under ``second_order``, cannot be
            differentiated twice; if there is nothing to resume, or something else than that.
        TypeError: for a fit, whose steps cannot be unrolled.
        MemoryError: if not even a single step fits.
    """
    out = Path(out)
    begun, state = _begin(out, tasks, config, resume)
    config = begun.config
    families = _families((tasks or begun.tasks or None) if resume else tasks)
    _check(families, config)
    out.mkdir(parents=True, exist_ok=True)
    each, done, curves = config.iterations, begun.iterations, Curves(config, out, begun.iterations)
    clock, origin = time.monotonic() - 60 * begun.minutes, _origin(begun)
    learner = Learner(config, max(0, done - 1) // each)
    if state is not None:
        learner.load_state_dict(state)
    for done in range(begun.iterations + 1, config.total_iterations + 1):
        if done > 1 and (done - 1) % each == 0:
            learner = Learner(config, (done - 1) // each)
        figures = learner.iterate(_draw(families, config, done - 1), done - 1)
        curves.log("train", figures, done)
        last = done == config.total_iterations or (should_stop is not None and should_stop())
        due = last or done % each == 0 or done % config.validate_every == 0
        measured = _validate(learner, families, config) if due else {}
        curves.log("validation", measured, done)
        minutes = (time.monotonic() - clock) / 60
        facts = origin | _progress(config, done, minutes, measured)
        policy = CoordinatePolicy(learner.network, facts, str(out))
        _keep(out, learner, policy, replace(begun, iterations=done, minutes=minutes))
        if progress is not None:
            progress(done, figures | measured)
        if last:
            break
    curves.close()
    best = replace(_best(out, done), name=str(out))
    best.save(out)
    write_atomically({out / "README.md": coordinate_card(best).encode()})
    return best


def _begin(
    out: Path, tasks: "Sequence[str | Task | Family] | None", config: UnrollConfig | None, resume: bool
) -> tuple[Progress[UnrollConfig], dict[str, Any] | None]:
    """Where a training stands, and the learner's state if it is taken up again."""
    if not resume:
        return Progress(config or UnrollConfig(), _names(tasks), 0, 0.0), None
    begun, state = load_unrolled(out)
    check_same(begun, config or begun.config, _names(tasks) if tasks else begun.tasks)
    return begun, state


def _families(tasks: "Sequence[str | Task | Family] | None") -> list[Family]:
    if tasks is not None and not tasks:
        raise ValueError(
            "No task to train on: name at least one, or leave tasks out for the paper's quadratics."
        )
    return [resolve(task) for task in tasks or (quadratics(),)]


def _check(families: Sequence[Family], config: UnrollConfig) -> None:
    """Refuse tasks on which no training could be made, or not made again."""
    for family in families:
        task = family(np.random.default_rng(0))
        if isinstance(task, Fit):
            raise TypeError(
                f"{task.name!r} is a fit, a loop of its own that nothing can unroll: give a Task of its network."
            )
        check_deterministic(family)
        if config.second_order:
            check_twice_differentiable(task)


def _draw(families: Sequence[Family], config: UnrollConfig, iteration: int) -> list[Task]:
    """The tasks of an iteration, the families taking turns."""
    rng = np.random.default_rng([config.seed, _DRAWING, iteration])
    return [steppable(families[group % len(families)](rng)) for group in range(config.groups)]


def _validate(learner: Learner, families: Sequence[Family], config: UnrollConfig) -> Figures:
    """Mean loss at the end over that at the start on runs kept apart, ``"loss"``, by which the best is chosen.

    On the fixed sample; of several families the mean.
    """
    ends = []
    for number, family in enumerate(families):
        sequence = np.random.SeedSequence([config.seed, _VALIDATION, number])
        task = steppable(family(np.random.default_rng(sequence)))
        seeds = [int(one) for one in sequence.generate_state(config.validation_runs)]
        engine = Engine(task, seeds)
        first = engine.evaluate().mean()
        with torch.no_grad():
            Runs(engine, learner.network).unroll(config.steps)
        end = float(engine.evaluate().mean() / first)
        ends.append(end if math.isfinite(end) else _LOST)
    return {"loss": float(np.mean(ends))}


def _best(out: Path, done: int) -> CoordinatePolicy:
    """Of the policies that were measured, the lowest; the earlier one of two alike."""
    places = (checkpoint(out, iterations) for iterations in range(1, done + 1))
    candidates = [CoordinatePolicy.load(place) for place in places if place.is_dir()]
    measured = [one for one in candidates if one.provenance["validation"]]
    return min(measured, key=lambda one: one.provenance["validation"]["loss"])


def _keep(out: Path, learner: Learner, policy: CoordinatePolicy, progress: Progress[UnrollConfig]) -> None:
    """Write checkpoint and state; a disk that is full now may not be after the next iteration."""
    try:
        policy.save(checkpoint(out, progress.iterations))
        save(out, progress, learner.state_dict())
    except (OSError, PolicyFileError) as error:
        warnings.warn(
            f"Iteration {progress.iterations} could not be saved in {out} ({error}): the last one that "
            f"was stays good, and training goes on; make room before it ends.",
            stacklevel=3,
        )


def _names(tasks: "Sequence[str | Task | Family] | None") -> list[str]:
    return [name_of(task) for task in tasks or ()]


def _origin(begun: Progress[UnrollConfig]) -> dict[str, Any]:
    """What is known of a policy before its training begins."""
    return {
        "agent": "unrolled runs, truncated back-propagation",
        "tasks": begun.tasks or _DEFAULT_TASK,
        "settings": asdict(begun.config),
        **begun.origin,
    }


def _progress(config: UnrollConfig, done: int, minutes: float, measured: Figures) -> dict[str, Any]:
    """What training has come to."""
    return {
        "iterations": done,
        "runs": done * config.groups * config.group_size,
        "minutes": round(minutes, 1),
        "validation": measured,
    }
