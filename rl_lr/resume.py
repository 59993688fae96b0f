"""What a training needs to go on after a crash, written whole after every iteration.

Every iteration starts fresh episodes and seeds all generators from (seed, iteration), so what the
agent has learned and remembers and the number of iterations done are the whole state: a resumed
training ends with the same policy, bit for bit, as one that was never stopped.
"""

import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from rl_lr.config import ControlConfig, DQNConfig, DrawConfig, PPOConfig, StartConfig, TrainConfig
from rl_lr.coordinate.config import UnrollConfig
from rl_lr.coordinate.network import NetworkSpec
from rl_lr.policy_files import write_atomically
from rl_lr.provenance import origin

STATE_FILE = "training.pt"
"""Inside the folder of a training; tensors and plain types, loaded without running code."""


Config = TypeVar("Config", TrainConfig, UnrollConfig)
"""Settings of a training: of an agent's, or of one by unrolled runs."""


@dataclass(frozen=True)
class Progress(Generic[Config]):
    """How far a training came."""

    config: Config
    """What it was started with."""
    tasks: list[str]
    """Names of its tasks; empty for the built-in families."""
    iterations: int
    """Iterations done."""
    minutes: float
    """Time they took."""
    start: str = ""
    """Checksum of the policy that it began from; empty for none."""
    origin: dict[str, Any] = field(default_factory=origin)
    """Where it began: command, commit, versions and processor."""


def save(out: Path, progress: Progress[Config], agent: dict[str, Any]) -> None:
    """Write how far it came and the agent's state; the last good file stays until this one is complete."""
    stream = io.BytesIO()
    torch.save({"progress": json.dumps(asdict(progress)), "agent": agent}, stream)
    write_atomically({out / STATE_FILE: stream.getvalue()})


def checkpoint(out: Path, iterations: int) -> Path:
    """Folder of the policy after that many iterations."""
    return out / "checkpoints" / f"{iterations:05d}"


def load(out: Path) -> tuple[Progress[TrainConfig], dict[str, Any]]:
    """How far a training of an agent came, and the state of that agent.

    Raises:
        ValueError: if there is none, it cannot be read, or is one by unrolled runs.
    """
    progress, agent = _read(out)
    if _is_unrolled(progress):
        raise ValueError(f"{out} holds a training of --agent unroll --granularity coordinate: name both.")
    return progress, agent


def load_unrolled(out: Path) -> tuple[Progress[UnrollConfig], dict[str, Any]]:
    """How far a training by unrolled runs came, and the state of its learner.

    Raises:
        ValueError: if there is none, it cannot be read, or is one of an agent.
    """
    progress, learner = _read(out)
    if not _is_unrolled(progress):
        raise ValueError(
            f"{out} holds a training of --agent {progress.config.agent}: leave --granularity out."
        )
    return progress, learner


def is_unrolled(out: Path) -> bool:
    """Whether a folder holds a training by unrolled runs.

    Raises:
        ValueError: if it holds none, or it cannot be read.
    """
    return _is_unrolled(_read(out)[0])


def _is_unrolled(progress: Progress[Any]) -> bool:
    return isinstance(progress.config, UnrollConfig)


def _read(out: Path) -> tuple[Progress[Any], dict[str, Any]]:
    path = out / STATE_FILE
    if not path.is_file():
        raise ValueError(f"{out} holds no training to go on with ({STATE_FILE} is missing): name its folder.")
    try:
        state = torch.load(path, weights_only=True)
        facts = json.loads(state["progress"])
        settings = facts["config"]
        build = _unroll_config if "truncation" in settings else _train_config
        progress = Progress(**facts | {"config": build(settings)})
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}): it is damaged or of another version; start a new training."
        ) from error
    return progress, state["agent"]


def _train_config(settings: dict[str, Any]) -> TrainConfig:
    parts = {
        "hidden": tuple(settings["hidden"]),
        "ppo": PPOConfig(**settings["ppo"]),
        "dqn": DQNConfig(**settings["dqn"] | {"choices": tuple(settings["dqn"]["choices"])}),
        "start": StartConfig(**settings["start"]),
        "draw": DrawConfig(**settings["draw"]),
        "control": ControlConfig(**settings["control"]),
    }
    return TrainConfig(**settings | parts)


def _unroll_config(settings: dict[str, Any]) -> UnrollConfig:
    parts = {
        "learning_rates": tuple(settings["learning_rates"]),
        "network": NetworkSpec(**settings["network"]),
    }
    return UnrollConfig(**settings | parts)


def check_same(saved: Progress[Config], config: Config, tasks: list[str]) -> None:
    """Refuse, by name, settings and tasks other than those that the training began with."""
    if tasks != saved.tasks:
        raise ValueError(
            f"The training was started on tasks {saved.tasks or 'built in'}, not {tasks or 'those built in'}: "
            f"leave the tasks as they were, or start a new training."
        )
    for name, value in _flat(asdict(config)).items():
        was = _flat(asdict(saved.config))[name]
        if value != was:
            raise ValueError(
                f"The training was started with {name}={was}, not {value}: leave it as it was, or start a new training."
            )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
