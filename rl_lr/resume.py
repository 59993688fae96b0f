"""What a training needs to go on after a crash, written whole after every iteration.

Every iteration starts fresh episodes and seeds all generators from (seed, iteration), so what the
agent has learned and remembers and the number of iterations done are the whole state: a resumed
training ends with the same policy, bit for bit, as one that was never stopped.
"""

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from rl_lr.config import ControlConfig, DQNConfig, DrawConfig, PPOConfig, StartConfig, TrainConfig
from rl_lr.policy_files import write_atomically

STATE_FILE = "training.pt"
"""Inside the folder of a training; tensors and plain types, loaded without running code."""


@dataclass(frozen=True)
class Progress:
    """How far a training came."""

    config: TrainConfig
    """What it was started with."""
    tasks: list[str]
    """Names of its tasks; empty for the built-in families."""
    iterations: int
    """Iterations done."""
    minutes: float
    """Time they took."""
    start: str = ""
    """Checksum of the policy that it began from; empty for none."""


def save(out: Path, progress: Progress, agent: dict[str, Any]) -> None:
    """Write how far it came and the agent's state; the last good file stays until this one is complete."""
    stream = io.BytesIO()
    torch.save({"progress": json.dumps(asdict(progress)), "agent": agent}, stream)
    write_atomically({out / STATE_FILE: stream.getvalue()})


def load(out: Path) -> tuple[Progress, dict[str, Any]]:
    """How far a training came, and the state of its agent.

    Raises:
        ValueError: if there is none, or it cannot be read.
    """
    path = out / STATE_FILE
    if not path.is_file():
        raise ValueError(f"{out} holds no training to go on with ({STATE_FILE} is missing): name its folder.")
    try:
        state = torch.load(path, weights_only=True)
        facts = json.loads(state["progress"])
        settings = facts["config"]
        parts = {
            "hidden": tuple(settings["hidden"]),
            "ppo": PPOConfig(**settings["ppo"]),
            "dqn": DQNConfig(**settings["dqn"] | {"choices": tuple(settings["dqn"]["choices"])}),
            "start": StartConfig(**settings["start"]),
            "draw": DrawConfig(**settings["draw"]),
            "control": ControlConfig(**settings["control"]),
        }
        progress = Progress(**facts | {"config": TrainConfig(**settings | parts)})
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}): it is damaged or of another version; start a new training."
        ) from error
    return progress, state["agent"]


def check_same(saved: Progress, config: TrainConfig, tasks: list[str]) -> None:
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
