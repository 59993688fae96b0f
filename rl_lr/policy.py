"""The learned policy: signals in, action out; a folder of weights and a schema, no code.

A policy folder (:mod:`rl_lr.policy_files`) holds ``model.safetensors`` (the network), ``config.json``
(what the numbers mean: signal schema, control constants, how it was trained, a checksum over both
files) and usually ``README.md``, the model card. Nothing in it is ever executed.
"""

import os
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rl_lr import policy_files
from rl_lr.config import MOST_CHOICES, ControlConfig
from rl_lr.policy_files import (
    CONFIG_FILE,
    FORMAT,
    MAX_CONFIG_BYTES,
    MAX_WEIGHT_BYTES,
    WEIGHTS_FILE,
    Config,
    PolicyFileError,
)
from rl_lr.signals import NUM_SIGNALS, SCHEMA, SIGNALS

__all__ = [
    "CONFIG_FILE",
    "MAX_CONFIG_BYTES",
    "MAX_WEIGHT_BYTES",
    "WEIGHTS_FILE",
    "Policy",
    "PolicyFileError",
    "shipped_policies",
]

COORDINATE_SCHEMA = "rl-lr-coordinate-1"
"""Of policies that set a step for every coordinate (:mod:`rl_lr.coordinate`), told apart by it."""
_KEYS = {"format", "schema", "signals", "control", "hidden", "provenance", "sha256"}


@dataclass(frozen=True, eq=False)
class Policy:
    """A multilayer perceptron from signals to one action per run.

    .. code-block:: text

        y = W_L tanh(… tanh(W_1 x + b_1) …) + b_L
        a = clip(y, -1, 1)                            the mean that PPO trained, or
        a = choices[argmax y]                         the choice that Q-learning values most

    with x the ``NUM_SIGNALS`` signals of a decision and a the action, in units of the largest
    change of the offset. Deterministic.

    Raises:
        ValueError: if its first layer wants another number of signals.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    """(weight ``[out, in]``, bias ``[out]``) of each layer, float32, on the CPU."""
    control: ControlConfig = field(default_factory=ControlConfig)
    """The constants of the control law that the policy was trained with."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How it was trained, free form, JSON only."""
    name: str = "unnamed"
    """What logs call it: the name or folder it was loaded from."""
    choices: tuple[float, ...] = ()
    """The actions that it chooses among, one for each output; empty for any action, from one output."""

    def __post_init__(self) -> None:
        """Refuse a network that is not for our signals."""
        inputs = self.layers[0][0].shape[1]
        if inputs != NUM_SIGNALS:
            raise ValueError(
                f"The network of policy {self.name!r} has {inputs} inputs, and there are {NUM_SIGNALS} signals: give it a "
                f"first layer of as many."
            )

    @classmethod
    def keep(cls, control: ControlConfig | None = None) -> "Policy":
        """The policy that always says "keep": the run follows its base schedule, as long as the guard does not act.

        ``Policy.keep(ControlConfig().unguarded)`` has no guard either.

        >>> Policy.keep().act(torch.randn(3, NUM_SIGNALS)).tolist()
        [0.0, 0.0, 0.0]
        """
        layer = (torch.zeros(1, NUM_SIGNALS, dtype=torch.float32), torch.zeros(1, dtype=torch.float32))
        return cls((layer,), control or ControlConfig(), {}, "keep")

    @classmethod
    def load(cls, source: "str | os.PathLike[str]" = "default") -> "Policy":
        """Load a policy that ships with the package, by name, or one of your own, by folder.

        Raises:
            PolicyFileError: in one sentence, whatever is wrong with it.
        """
        folder = policy_files.find(source, _shipped())
        config, weights = policy_files.read(folder)
        _check_schema(config, folder)
        policy_files.check_whole(config, weights, _KEYS | ({"choices"} & set(config)), folder)
        choices = _parse_choices(config.get("choices", []), folder)
        layers = _parse_layers(weights, config["hidden"], len(choices) or 1, folder)
        control = _parse_control(config["control"], folder)
        return cls(layers, control, config["provenance"], str(source), choices)

    @classmethod
    def from_pretrained(cls, source: "str | os.PathLike[str]", revision: str | None = None) -> "Policy":
        """Load a policy from a folder or from the Hugging Face Hub: :func:`rl_lr.hub.from_pretrained`."""
        from rl_lr.hub import from_pretrained

        return from_pretrained(source, revision)

    def push_to_hub(self, repository: str, private: bool = False) -> str:
        """Upload it to the Hugging Face Hub: :func:`rl_lr.hub.push_to_hub`."""
        from rl_lr.hub import push_to_hub

        return push_to_hub(self, repository, private)

    @property
    def sha256(self) -> str:
        """Checksum over configuration and weights, hexadecimal."""
        weights, config = self._serialise()
        return policy_files.checksum(config, weights)

    def __eq__(self, other: object) -> bool:
        """Whether both are the same but for what logs call them."""
        return isinstance(other, Policy) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        """Of the checksum."""
        return hash(self.sha256)

    def act(self, signals: Tensor) -> Tensor:
        """Actions in [-1, 1], ``[runs]`` float32, for signals ``[runs, NUM_SIGNALS]``."""
        return self.mean(signals).clamp(-1.0, 1.0)

    def mean(self, signals: Tensor) -> Tensor:
        """Actions before they are clipped, ``[runs]`` float32: around these, PPO explores."""
        x = signals.float()
        with torch.no_grad():
            for weight, bias in self.layers[:-1]:
                x = torch.tanh(x @ weight.to(x.device).mT + bias.to(x.device))
            weight, bias = self.layers[-1]
            x = x @ weight.to(x.device).mT + bias.to(x.device)
        return (
            torch.tensor(self.choices, dtype=torch.float32, device=x.device)[x.argmax(dim=-1)]
            if self.choices
            else x.squeeze(-1)
        )

    def save(self, folder: "str | os.PathLike[str]") -> Path:
        """Write the policy into ``folder``; on failure the files already there stay whole.

        Raises:
            PolicyFileError: if the folder cannot be written.
        """
        weights, config = self._serialise()
        return policy_files.write(folder, config, weights)

    def _serialise(self) -> tuple[bytes, Config]:
        tensors: dict[str, Tensor] = {}
        for index, (weight, bias) in enumerate(self.layers):
            tensors[f"layers.{index}.weight"] = weight
            tensors[f"layers.{index}.bias"] = bias
        config: Config = {
            "format": FORMAT,
            "schema": SCHEMA,
            "signals": list(SIGNALS),
            "control": asdict(self.control),
            "hidden": [weight.shape[0] for weight, _ in self.layers[:-1]],
            "provenance": self.provenance,
        }
        if self.choices:
            config["choices"] = list(self.choices)
        return policy_files.serialised(tensors), config


def shipped_policies() -> list[str]:
    """Names of the policies inside the package."""
    return list(_shipped())


def _shipped() -> dict[str, Path]:
    return policy_files.folders(Path(str(resources.files("rl_lr") / "policies")))


def _check_schema(config: Config, folder: Path) -> None:
    """Refuse a policy that is made for other signals, or for none."""
    if config["schema"] == COORDINATE_SCHEMA:
        raise PolicyFileError(
            f"The policy in {folder} sets a step for every coordinate, here one is wanted that sets learning rates: "
            f"use it as rl_lr.coordinate.LearnedOptimizer(params, policy=...)."
        )
    if config["schema"] != SCHEMA or config.get("signals") != list(SIGNALS):
        raise PolicyFileError(
            f"The policy in {folder} was trained on signals {config['schema']!r} {config.get('signals')}, this "
            f"version of rl-lr computes {SCHEMA!r} {list(SIGNALS)}: train it again, or install the rl-lr it came with."
        )


def _parse_choices(values: Any, folder: Path) -> tuple[float, ...]:
    valid = isinstance(values, list) and len(values) <= MOST_CHOICES
    if not valid or not all(type(one) in (int, float) and -1.0 <= one <= 1.0 for one in values):
        raise PolicyFileError(
            f"The choices in {folder / CONFIG_FILE} must be at most {MOST_CHOICES} numbers from -1 to 1: "
            f"export the policy again."
        )
    return tuple(float(one) for one in values)


def _parse_layers(
    weights: bytes, hidden: Any, outputs: int, folder: Path
) -> tuple[tuple[Tensor, Tensor], ...]:
    try:
        sizes = list(pairwise([NUM_SIGNALS, *(int(size) for size in hidden), outputs]))
    except (TypeError, ValueError, OverflowError) as error:
        raise policy_files.unfit(error, folder) from error
    shapes: dict[str, tuple[int, ...]] = {}
    for index, (fan_in, fan_out) in enumerate(sizes):
        shapes |= {f"layers.{index}.weight": (fan_out, fan_in), f"layers.{index}.bias": (fan_out,)}
    tensors = policy_files.tensors_of(weights, shapes, folder)
    return tuple(
        (tensors[f"layers.{index}.weight"], tensors[f"layers.{index}.bias"]) for index in range(len(sizes))
    )


def _parse_control(values: Any, folder: Path) -> ControlConfig:
    try:
        missing = {one.name for one in fields(ControlConfig)} - set(values)
        if missing:
            raise ValueError(f"no {', '.join(sorted(missing))}")
        return ControlConfig(**values)
    except (TypeError, ValueError) as error:
        raise PolicyFileError(
            f"The control constants in {folder / CONFIG_FILE} are not usable ({error}): export the policy again."
        ) from error
