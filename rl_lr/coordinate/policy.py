"""Policies that set a step for every coordinate: the network as a folder, under the rules of every policy folder."""

import os
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from rl_lr import policy_files
from rl_lr.coordinate.network import CoordinateNetwork, NetworkSpec
from rl_lr.policy import COORDINATE_SCHEMA
from rl_lr.policy_files import CONFIG_FILE, FORMAT, Config, PolicyFileError

_KEYS = {"format", "schema", "network", "provenance", "sha256"}


@dataclass(frozen=True)
class CoordinatePolicy:
    """A :class:`rl_lr.coordinate.network.CoordinateNetwork` that has been trained, and how.

    :class:`rl_lr.coordinate.LearnedOptimizer` steps weights by it. Beside your own, by folder, there are two
    that ship, by name: ``"quadratics"`` and ``"sigmoid-mlp"``, each trained on what it is called after.
    """

    network: CoordinateNetwork
    """On the CPU, float32."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How it was trained, free form, JSON only."""
    name: str = "unnamed"
    """What logs call it: the name or folder it was loaded from."""

    @classmethod
    def load(cls, source: "str | os.PathLike[str]") -> "CoordinatePolicy":
        """Load a policy that ships with the package, by name, or one of your own, by folder.

        Raises:
            PolicyFileError: in one sentence, whatever is wrong with it.

        >>> CoordinatePolicy.load("quadratics").network.spec.hidden
        20
        """
        folder = policy_files.find(source, _shipped())
        config, weights = policy_files.read(folder)
        if config["schema"] != COORDINATE_SCHEMA:
            raise PolicyFileError(
                f"The policy in {folder} is of schema {config['schema']!r} and sets learning rates, here one is wanted "
                f"that sets a step for every coordinate: load it by rl_lr.Policy.load, use it as RLLearningRate(policy=...)."
            )
        policy_files.check_whole(config, weights, _KEYS, folder)
        network = CoordinateNetwork(_spec(config["network"], folder))
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        network.load_state_dict(policy_files.tensors_of(weights, shapes, folder))
        return cls(network.requires_grad_(False), config["provenance"], str(source))

    @property
    def sha256(self) -> str:
        """Checksum over configuration and weights, hexadecimal."""
        config, weights = self._serialise()
        return policy_files.checksum(config, weights)

    def save(self, folder: "str | os.PathLike[str]") -> Path:
        """Write the policy into ``folder``; on failure the files already there stay whole.

        Raises:
            PolicyFileError: if the folder cannot be written.
        """
        return policy_files.write(folder, *self._serialise())

    def _serialise(self) -> tuple[Config, bytes]:
        config: Config = {
            "format": FORMAT,
            "schema": COORDINATE_SCHEMA,
            "network": asdict(self.network.spec),
            "provenance": self.provenance,
        }
        return config, policy_files.serialised(self.network.state_dict())


def shipped_policies() -> list[str]:
    """Names of the coordinate-wise policies inside the package."""
    return list(_shipped())


def _shipped() -> dict[str, Path]:
    return policy_files.folders(Path(str(resources.files("rl_lr") / "policies" / "coordinate")))


def _spec(values: Any, folder: Path) -> NetworkSpec:
    try:
        return NetworkSpec(**values)
    except (TypeError, ValueError) as error:
        raise PolicyFileError(
            f"The network in {folder / CONFIG_FILE} is not usable ({error}): export the policy again."
        ) from error
