"""The learned policy: signals in, action out; a folder of weights and a schema, no code.

A policy folder holds ``model.safetensors`` (the network), ``config.json`` (what the numbers
mean: signal schema, control constants, how it was trained, a checksum over both files) and
usually ``README.md``, the model card. Nothing in it is ever executed.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from rl_lr.config import ControlConfig
from rl_lr.signals import NUM_SIGNALS, SCHEMA, SIGNALS

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
MAX_WEIGHT_BYTES, MAX_CONFIG_BYTES = 16 * 2**20, 2**20
FORMAT = 1
_KEYS = {"format", "schema", "signals", "control", "hidden", "provenance", "sha256"}
_MOST_CHOICES = 64


class PolicyFileError(ValueError):
    """A policy cannot be found, read, trusted or written; the message says why and what to do."""


@dataclass(frozen=True)
class Policy:
    """A multilayer perceptron from signals to one action per run.

    .. code-block:: text

        y = W_L tanh(… tanh(W_1 x + b_1) …) + b_L
        a = clip(y, -1, 1)                            the mean that PPO trained, or
        a = choices[argmax y]                         the choice that Q-learning values most

    with x the ``NUM_SIGNALS`` signals of a decision and a the action, in units of the largest
    change of the offset. Deterministic.
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

    @classmethod
    def keep(cls, control: ControlConfig | None = None) -> "Policy":
        """The policy that always says "keep": the run follows its base schedule.

        >>> Policy.keep().act(torch.randn(3, NUM_SIGNALS)).tolist()
        [0.0, 0.0, 0.0]
        """
        layer = (torch.zeros(1, NUM_SIGNALS), torch.zeros(1))
        return cls((layer,), control or ControlConfig(), {}, "keep")

    @classmethod
    def load(cls, source: "str | os.PathLike[str]" = "default") -> "Policy":
        """Load a policy that ships with the package, by name, or one of your own, by folder.

        Raises:
            PolicyFileError: in one sentence, whatever is wrong with it.
        """
        folder = _find(source)
        config_bytes = _read(folder / CONFIG_FILE, MAX_CONFIG_BYTES)
        weight_bytes = _read(folder / WEIGHTS_FILE, MAX_WEIGHT_BYTES)
        config = _parse_config(config_bytes, folder)
        if config["sha256"] != _checksum(config, weight_bytes):
            raise PolicyFileError(
                f"The policy in {folder} is damaged: its checksum does not match "
                f"{config['sha256']!r}; copy or download the folder again."
            )
        choices = _parse_choices(config.get("choices", []), folder)
        layers = _parse_layers(weight_bytes, config["hidden"], len(choices) or 1, folder)
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
        return _checksum(config, weights)

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
            torch.tensor(self.choices, device=x.device)[x.argmax(dim=-1)] if self.choices else x.squeeze(-1)
        )

    def save(self, folder: "str | os.PathLike[str]") -> Path:
        """Write the policy into ``folder``; on failure the files already there stay whole.

        Both files are written and flushed beside their targets first, then renamed over them,
        so a full disk is noticed before anything is replaced.

        Raises:
            PolicyFileError: if the folder cannot be written.
        """
        folder = Path(folder)
        weights, config = self._serialise()
        config["sha256"] = _checksum(config, weights)
        text = json.dumps(config, indent=2, sort_keys=True).encode()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically({folder / WEIGHTS_FILE: weights, folder / CONFIG_FILE: text})
        except OSError as error:
            raise PolicyFileError(
                f"The policy could not be saved in {folder} ({error.strerror or error}); "
                f"what was there before is unchanged: free some space or choose another folder."
            ) from error
        return folder

    def _serialise(self) -> tuple[bytes, dict[str, Any]]:
        tensors: dict[str, Tensor] = {}
        for index, (weight, bias) in enumerate(self.layers):
            tensors[f"layers.{index}.weight"] = weight.detach().cpu().contiguous()
            tensors[f"layers.{index}.bias"] = bias.detach().cpu().contiguous()
        config: dict[str, Any] = {
            "format": FORMAT,
            "schema": SCHEMA,
            "signals": list(SIGNALS),
            "control": asdict(self.control),
            "hidden": [weight.shape[0] for weight, _ in self.layers[:-1]],
            "provenance": self.provenance,
        }
        if self.choices:
            config["choices"] = list(self.choices)
        return safetensors.torch.save(tensors), config


def write_atomically(files: dict[Path, bytes]) -> None:
    """Write every file beside its target and flush it, then rename all over their targets."""
    temporary = {path.with_name(f".{path.name}.{os.getpid()}.tmp"): path for path in files}
    try:
        for temp, path in temporary.items():
            with open(temp, "wb") as stream:
                stream.write(files[path])
                stream.flush()
                os.fsync(stream.fileno())
        for temp, path in temporary.items():
            os.replace(temp, path)
    finally:
        for temp in temporary:
            temp.unlink(missing_ok=True)


def shipped_policies() -> list[str]:
    """Names of the policies inside the package."""
    root = resources.files("rl_lr") / "policies"
    return sorted(entry.name for entry in root.iterdir() if (entry / CONFIG_FILE).is_file())


def _find(source: "str | os.PathLike[str]") -> Path:
    if isinstance(source, str) and source in shipped_policies():
        return Path(str(resources.files("rl_lr") / "policies" / source))
    path = Path(source)
    if os.path.isdir(path):
        return path
    if os.path.isfile(path):
        raise PolicyFileError(
            f"{path} is a file: a policy is a folder with {WEIGHTS_FILE} and {CONFIG_FILE}; zip and "
            f"pickle files can run code when opened and are never loaded, train or export a folder."
        )
    raise PolicyFileError(
        f"There is no policy {str(source)!r}: name one that ships with rl-lr "
        f"({', '.join(shipped_policies())}) or give the folder of your own."
    )


def _read(path: Path, limit: int) -> bytes:
    try:
        with open(path, "rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise PolicyFileError(
            f"{path} cannot be read ({error.strerror}): a policy folder needs both "
            f"{WEIGHTS_FILE} and {CONFIG_FILE}; copy the whole folder."
        ) from error
    if len(content) > limit:
        raise PolicyFileError(
            f"{path} is larger than {limit} bytes, so it is no policy of rl-lr: check the path."
        )
    return content


def _parse_config(content: bytes, folder: Path) -> dict[str, Any]:
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise PolicyFileError(
            f"{folder / CONFIG_FILE} is not JSON ({type(error).__name__}): copy the policy folder again."
        ) from error
    if not isinstance(config, dict) or not isinstance(config.get("schema"), str):
        raise PolicyFileError(
            f"{folder / CONFIG_FILE} does not describe a policy: check that the folder is the right one."
        )
    if config["schema"] != SCHEMA or config.get("signals") != list(SIGNALS):
        raise PolicyFileError(
            f"The policy in {folder} was trained on signals {config['schema']!r} {config.get('signals')}, this "
            f"version of rl-lr computes {SCHEMA!r} {list(SIGNALS)}: train it again, or install the rl-lr it came with."
        )
    if (
        set(config) - {"choices"} != _KEYS
        or config["format"] != FORMAT
        or not isinstance(config["provenance"], dict)
    ):
        raise PolicyFileError(
            f"{folder / CONFIG_FILE} must have the keys {sorted(_KEYS)} and format {FORMAT}: "
            f"it was written by another version or changed by hand, export the policy again."
        )
    return config


def _parse_choices(values: Any, folder: Path) -> tuple[float, ...]:
    valid = isinstance(values, list) and len(values) <= _MOST_CHOICES
    if not valid or not all(type(one) in (int, float) and -1.0 <= one <= 1.0 for one in values):
        raise PolicyFileError(
            f"The choices in {folder / CONFIG_FILE} must be at most {_MOST_CHOICES} numbers from -1 to 1: "
            f"export the policy again."
        )
    return tuple(float(one) for one in values)


def _parse_layers(
    content: bytes, hidden: Any, outputs: int, folder: Path
) -> tuple[tuple[Tensor, Tensor], ...]:
    try:
        tensors = safetensors.torch.load(content)
        sizes = [NUM_SIGNALS, *(int(size) for size in hidden), outputs]
        layers = []
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            weight, bias = tensors.pop(f"layers.{index}.weight"), tensors.pop(f"layers.{index}.bias")
            if weight.shape != (fan_out, fan_in) or bias.shape != (fan_out,):
                raise ValueError(f"layer {index} has shape {tuple(weight.shape)}")
            if not (
                weight.dtype == bias.dtype == torch.float32
                and weight.isfinite().all()
                and bias.isfinite().all()
            ):
                raise ValueError(f"layer {index} is not finite float32")
            layers.append((weight, bias))
        if tensors:
            raise ValueError(f"unexpected tensors {sorted(tensors)}")
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise PolicyFileError(
            f"{folder / WEIGHTS_FILE} does not hold the network that {CONFIG_FILE} describes ({error}): "
            f"copy the policy folder again."
        ) from error
    return tuple(layers)


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


def _checksum(config: dict[str, Any], weights: bytes) -> str:
    stated = {key: value for key, value in config.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode() + b"\0" + weights).hexdigest()
