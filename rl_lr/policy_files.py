"""Policy folders: found, read within bounds, checked, written whole; whatever kind of policy lies in them.

A folder holds ``model.safetensors`` (the network) and ``config.json`` (what its numbers mean, and a
checksum over both files). Nothing in it is ever executed, and every fault is a :class:`PolicyFileError`.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
MAX_WEIGHT_BYTES, MAX_CONFIG_BYTES = 16 * 2**20, 2**20
FORMAT = 1

Config = dict[str, Any]
"""What ``config.json`` holds."""


class PolicyFileError(ValueError):
    """A policy cannot be found, read, trusted or written; the message says why and what to do."""


def find(source: "str | os.PathLike[str]", shipped: Mapping[str, Path]) -> Path:
    """The folder of a policy that ships with the package, by its name, or of one's own.

    Raises:
        PolicyFileError: if there is none.
    """
    if isinstance(source, str) and source in shipped:
        return shipped[source]
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
        f"({', '.join(shipped)}) or give the folder of your own."
    )


def folders(root: Path) -> dict[str, Path]:
    """The policy folders right below ``root``, by name."""
    return {one.name: one for one in sorted(root.iterdir()) if (one / CONFIG_FILE).is_file()}


def read(folder: Path) -> tuple[Config, bytes]:
    """Configuration and weights as they lie there; only the sizes, and that the first is an object with a schema, are sure.

    Raises:
        PolicyFileError: if they cannot be read.
    """
    config_bytes = _read(folder / CONFIG_FILE, MAX_CONFIG_BYTES)
    weights = _read(folder / WEIGHTS_FILE, MAX_WEIGHT_BYTES)
    try:
        config = json.loads(config_bytes)
    except (ValueError, RecursionError) as error:
        raise PolicyFileError(
            f"{folder / CONFIG_FILE} is not JSON ({type(error).__name__}): copy the policy folder again."
        ) from error
    if not isinstance(config, dict) or not isinstance(config.get("schema"), str):
        raise PolicyFileError(
            f"{folder / CONFIG_FILE} does not describe a policy: check that the folder is the right one."
        )
    return config, weights


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


def check_whole(config: Config, weights: bytes, keys: set[str], folder: Path) -> None:
    """Refuse a configuration of other keys than these, and files that are not those that were written.

    Raises:
        PolicyFileError: which of it.
    """
    if set(config) != keys or config["format"] != FORMAT or not isinstance(config["provenance"], dict):
        raise PolicyFileError(
            f"{folder / CONFIG_FILE} must have the keys {sorted(keys)} and format {FORMAT}: "
            f"it was written by another version or changed by hand, export the policy again."
        )
    if config["sha256"] != checksum(config, weights):
        raise PolicyFileError(
            f"The policy in {folder} is damaged: its checksum does not match "
            f"{config['sha256']!r}; copy or download the folder again."
        )


def tensors_of(weights: bytes, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> dict[str, Tensor]:
    """The tensors of a weights file: those of these names and shapes, finite float32, and no others.

    Raises:
        PolicyFileError: if it holds anything else.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(weights)
        if set(tensors) != set(shapes):
            raise ValueError(f"it has tensors {sorted(set(tensors) ^ set(shapes))} too many or too few")
        for name, shape in shapes.items():
            if tuple(tensors[name].shape) != shape:
                raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}")
            if tensors[name].dtype != torch.float32 or not tensors[name].isfinite().all():
                raise ValueError(f"{name} is not finite float32")
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise unfit(error, folder) from error
    return tensors


def unfit(reason: object, folder: Path) -> PolicyFileError:
    """What to raise where weights and configuration do not fit each other."""
    return PolicyFileError(
        f"{folder / WEIGHTS_FILE} does not hold the network that {CONFIG_FILE} describes ({reason}): "
        f"copy the policy folder again."
    )


def serialised(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as the weights file holds them."""
    return safetensors.torch.save({name: one.detach().cpu().contiguous() for name, one in tensors.items()})


def checksum(config: Config, weights: bytes) -> str:
    """Over configuration, but for the checksum in it, and weights, hexadecimal."""
    stated = {key: value for key, value in config.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode() + b"\0" + weights).hexdigest()


def write(folder: "str | os.PathLike[str]", config: Config, weights: bytes) -> Path:
    """Write both files, the checksum in the first; on failure those already there stay whole.

    They are written and flushed beside their targets first, then renamed over them,
    so a full disk is noticed before anything is replaced.

    Raises:
        PolicyFileError: if the folder cannot be written.
    """
    folder = Path(folder)
    text = json.dumps(config | {"sha256": checksum(config, weights)}, indent=2, sort_keys=True).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically({folder / WEIGHTS_FILE: weights, folder / CONFIG_FILE: text})
    except OSError as error:
        raise PolicyFileError(
            f"The policy could not be saved in {folder} ({error.strerror or error}); "
            f"what was there before is unchanged: free some space or choose another folder."
        ) from error
    return folder


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
