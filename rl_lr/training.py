"""PPO across runs: trains a policy on thousands of short trainings and exports it."""

import json
import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from stable_baselines3.common.utils import set_random_seed
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from rl_lr.card import model_card
from rl_lr.config import ControlConfig, TrainConfig
from rl_lr.envs.batched import BatchedLearningRateEnv
from rl_lr.envs.sb3 import SB3VecEnv
from rl_lr.policy import Policy, PolicyFileError, write_atomically
from rl_lr.resume import Progress, check_same, load, save
from rl_lr.reward import score
from rl_lr.tasks import Family, Task, resolve
from rl_lr.tasks.families import TRAINING, mixture
from rl_lr.validation import Validation

Figures = dict[str, float]
"""What an iteration measured, by name."""

Report = Callable[[int, Figures], None]
"""Told the number of iterations done and the latest figures, after each one."""


def train(
    out: str | Path,
    tasks: "Sequence[str | Task | Family] | None" = None,
    config: TrainConfig | None = None,
    progress: Report | None = None,
    should_stop: Callable[[], bool] | None = None,
    resume: bool = False,
) -> Policy:
    """Train a policy with PPO and export it into ``out``.

    The folder receives ``model.safetensors``, ``config.json`` and ``README.md`` (the policy),
    ``tensorboard/`` (curves of the training), ``checkpoints/`` (the policy of every iteration) and
    ``training.pt`` (what it needs to go on after a crash, from the last complete iteration).

    Args:
        out: folder of the result; made if missing.
        tasks: what to train on, each as likely as the others; None for the built-in families.
        config: sizes, seeds and PPO's settings.
        progress: called after every iteration.
        should_stop: asked after every iteration; True makes it the last.
        resume: go on with the training in ``out``; tasks and settings are those it began with,
            and the result is that of a training that was never stopped, bit for bit.

    Returns:
        The policy of the last iteration.

    Raises:
        ValueError: if there is no task, or nothing to resume, or something else than that.
    """
    out, state = Path(out), None
    begun = Progress(config or TrainConfig(), _names(tasks), iterations=0, minutes=0.0)
    if resume:
        begun, state = load(out)
        tasks = tasks or begun.tasks or None
        check_same(begun, config or begun.config, _names(tasks))
    config, family = begun.config, _family(tasks)
    out.mkdir(parents=True, exist_ok=True)
    origin = _origin(config, tasks)
    start = time.monotonic() - 60 * begun.minutes
    model, policy = _build(family, config, out, begun.iterations), Policy.keep(config.control)
    if state is not None:
        _restore(model, state, begun)
        policy = Policy.load(_checkpoint(out, begun.iterations))
    validation = Validation(family, config.draw, config.control, seed=config.seed)
    figures: Figures = {}
    for done in range(begun.iterations + 1, config.iterations + 1):
        figures |= _iterate(model, config, done - 1)
        last = done == config.iterations or (should_stop is not None and should_stop())
        measured: Figures = {}
        if config.validate_every and (done % config.validate_every == 0 or last):
            measured = validation.measure(export_policy(model, config.control, {}, "candidate"))
            _log(model, "validation", measured)
        model.logger.dump(done)
        minutes = (time.monotonic() - start) / 60
        provenance = origin | _progress(config, done, minutes, measured)
        policy = export_policy(model, config.control, provenance, str(out))
        _keep(out, model, policy, replace(begun, iterations=done, minutes=minutes))
        figures |= measured
        if progress is not None:
            progress(done, figures)
        if last:
            break
    policy.save(out)
    write_atomically({out / "README.md": model_card(policy).encode()})
    return policy


def _family(tasks: "Sequence[str | Task | Family] | None") -> Family:
    """What every group of runs draws its task from."""
    families = TRAINING if tasks is None else tuple((resolve(task), 1.0) for task in tasks)
    if not families:
        raise ValueError(
            "No task to train on: name at least one, or leave tasks out for the built-in families."
        )
    return lambda rng: mixture(rng, families)


def _restore(model: PPO, state: dict[str, Any], begun: Progress) -> None:
    model.policy.load_state_dict(state["network"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    model.num_timesteps = begun.iterations * begun.config.runs * begun.config.control.decision_count


def _checkpoint(out: Path, iterations: int) -> Path:
    return out / "checkpoints" / f"{iterations:05d}"


def _keep(out: Path, model: PPO, policy: Policy, progress: Progress) -> None:
    """Write checkpoint and state; a disk that is full now may not be after the next iteration."""
    try:
        policy.save(_checkpoint(out, progress.iterations))
        save(out, progress, model.policy, model.policy.optimizer)
    except (OSError, PolicyFileError) as error:
        warnings.warn(
            f"Iteration {progress.iterations} could not be saved in {out} ({error}): the last one that "
            f"was stays good, and training goes on; make room before it ends.",
            stacklevel=3,
        )


def _names(tasks: "Sequence[str | Task | Family] | None") -> list[str]:
    return [_name_of(task) for task in tasks or ()]


def _name_of(task: "str | Task | Family") -> str:
    if isinstance(task, str):
        return task
    return str(getattr(task, "name", getattr(task, "__name__", type(task).__name__)))


def _origin(config: TrainConfig, tasks: "Sequence[str | Task | Family] | None") -> dict[str, Any]:
    """What is known of a policy before its training begins."""
    return {
        "agent": "PPO (stable-baselines3)",
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "tasks": _names(tasks) or "built-in training families",
        "settings": asdict(config),
        "versions": {name: version(name) for name in ("rl-lr", "torch", "stable-baselines3")},
    }


def _progress(config: TrainConfig, iterations: int, minutes: float, measured: Figures) -> dict[str, Any]:
    """What training has come to."""
    return {
        "iterations": iterations,
        "runs": iterations * config.runs,
        "minutes": round(minutes, 1),
        "validation": {name: round(value, 4) for name, value in measured.items()},
    }


def _commit() -> str:
    """The commit of the source checkout that runs, marked if it was changed; "" outside of one."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _build(family: Family, config: TrainConfig, out: Path, done: int) -> PPO:
    """The model, its environment and its curves, ``done`` iterations after the first."""
    env = BatchedLearningRateEnv(config.runs, family, config.group_size, config.draw, config.control)
    model = PPO(
        "MlpPolicy",
        SB3VecEnv(env, paired=True, first_episode=done),
        learning_rate=config.learning_rate,
        n_steps=config.control.decision_count,
        batch_size=config.minibatch,
        n_epochs=config.epochs,
        gamma=1.0,
        gae_lambda=config.gae_lambda,
        ent_coef=config.entropy,
        target_kl=0.05,
        policy_kwargs={
            "net_arch": list(config.hidden),
            "activation_fn": nn.Tanh,
            "log_std_init": config.log_std,
        },
        seed=config.seed,
        device="cpu",
    )
    curves = _Curves(str(out / "tensorboard"), purge_step=done + 1 if done else None)
    model.set_logger(Logger(str(out / "tensorboard"), [curves]))
    if not done:
        curves.writer.add_text("settings", f"```json\n{json.dumps(asdict(config), indent=2)}\n```", 0)
    return model


class _Curves(TensorBoardOutputFormat):
    """SB3's TensorBoard output; what a crashed run wrote from ``purge_step`` on is hidden."""

    def __init__(self, folder: str, purge_step: int | None) -> None:
        self.writer = SummaryWriter(folder, purge_step=purge_step)
        self._is_closed = False


def _iterate(model: PPO, config: TrainConfig, iteration: int) -> Figures:
    """One PPO iteration: a whole episode of every run, then the update."""
    set_random_seed(int(np.random.SeedSequence([config.seed, iteration]).generate_state(1)[0]))
    remaining = 1.0 - iteration / config.iterations
    model.lr_schedule = lambda _: config.learning_rate * (0.1 + 0.9 * remaining)
    returns = _Returns()
    began = time.monotonic()
    steps = config.control.decision_count * config.runs
    model.learn(steps, callback=returns, reset_num_timesteps=False, log_interval=None)  # type: ignore[arg-type]
    figures = returns.figures() | {"decisions_per_second": steps / (time.monotonic() - began)}
    _log(model, "rollout", figures)
    return figures


class _Returns(BaseCallback):
    """Keeps how the runs of the iteration ended."""

    def __init__(self) -> None:
        super().__init__()
        self._ended: list[dict[str, float]] = []

    def _on_step(self) -> bool:
        self._ended += [info for info in self.locals["infos"] if "final_loss" in info]
        return True

    def figures(self) -> Figures:
        """Mean return (nats of score gained), and the share of runs that ended above their start."""
        initial = torch.tensor([info["initial_loss"] for info in self._ended])
        final = torch.tensor([info["final_loss"] for info in self._ended])
        gained = score(initial, initial) - score(final, initial)
        return {"return": float(gained.mean()), "worse_than_start": float((gained < 0).double().mean())}


def _log(model: PPO, group: str, figures: Figures) -> None:
    for name, value in figures.items():
        model.logger.record(f"{group}/{name}", value)


def export_policy(model: PPO, control: ControlConfig, provenance: dict[str, Any], name: str) -> Policy:
    """The deterministic actor of an SB3 model as a :class:`Policy`."""
    actor = [*model.policy.mlp_extractor.policy_net, model.policy.action_net]
    layers = tuple(
        (layer.weight.detach().clone(), layer.bias.detach().clone())
        for layer in actor
        if isinstance(layer, nn.Linear)
    )
    return Policy(layers, control, provenance, name)
