"""Coordinate-wise policies: round trips, and every fault of their folders."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from rl_lr.coordinate import CoordinatePolicy
from rl_lr.coordinate.network import CoordinateNetwork, NetworkSpec
from rl_lr.coordinate.policy import shipped_policies
from rl_lr.policy import COORDINATE_SCHEMA, Policy
from rl_lr.policy_files import (
    CONFIG_FILE,
    MAX_CONFIG_BYTES,
    MAX_WEIGHT_BYTES,
    WEIGHTS_FILE,
    PolicyFileError,
)


def make(seed: int = 1, hidden: int = 5) -> CoordinatePolicy:
    torch.manual_seed(seed)
    return CoordinatePolicy(CoordinateNetwork(NetworkSpec(hidden=hidden)), {"seed": seed}, "random")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make().save(tmp_path / "policy")


def refusal(source: str | Path) -> str:
    """The message with which ``source`` is refused: one sentence, whatever the fault."""
    with pytest.raises(PolicyFileError) as caught:
        CoordinatePolicy.load(source)
    message = str(caught.value)
    assert re.fullmatch(r"[^\n]+[^.\n]\.", message), message
    assert not re.search(r"[.!?] [A-Z]", message), message
    return message


def forge(folder: Path, **changes: Any) -> None:
    """Change the folder's configuration and make its checksum right again."""
    config = json.loads((folder / CONFIG_FILE).read_text()) | changes
    config.pop("sha256")
    stated = json.dumps(config, sort_keys=True).encode()
    digest = hashlib.sha256(stated + b"\0" + (folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    (folder / CONFIG_FILE).write_text(json.dumps(config | {"sha256": digest}))


def test_saving_and_loading_gives_the_same_bits(tmp_path: Path) -> None:
    policy = make()
    loaded = CoordinatePolicy.load(policy.save(tmp_path / "deep" / "folder"))
    for name, tensor in policy.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor)
    assert (loaded.network.spec, loaded.provenance) == (policy.network.spec, policy.provenance)
    assert loaded.sha256 == policy.sha256 != make(2).sha256


def test_the_network_is_the_lstm_of_the_textbook() -> None:
    """Hochreiter & Schmidhuber's cell with a forget gate, written out, over a few steps."""
    network = make().network
    gradients = torch.tensor([[1.0, -0.5], [1e-3, 20.0], [1e-7, 0.0]])
    memory = network.start(2)
    x0 = [torch.zeros(2, 5) for _ in range(4)]
    for gradient in gradients:
        update, memory = network(gradient, memory)
        large = gradient.abs() >= torch.exp(torch.tensor(-10.0))
        x = torch.stack(
            (
                torch.where(large, gradient.abs().log() / 10, -1.0),
                torch.where(large, gradient.sign(), torch.exp(torch.tensor(10.0)) * gradient),
            ),
            dim=1,
        )
        for layer, cell in enumerate(network.cells):
            h, c = x0[2 * layer : 2 * layer + 2]
            weights = [cell.get_parameter(n) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            i, f, g, o = (x @ weights[0].mT + h @ weights[1].mT + weights[2] + weights[3]).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            x = o.sigmoid() * c.tanh()
            x0[2 * layer : 2 * layer + 2] = [x, c]
        torch.testing.assert_close(update, 0.1 * (x @ network.head.weight.mT + network.head.bias)[:, 0])


def test_coordinates_do_not_see_each_other() -> None:
    network, gradients = make().network, torch.randn(5, 3)
    together, apart = network.start(3), [network.start(1) for _ in range(3)]
    for gradient in gradients:
        update, together = network(gradient, together)
        for place in range(3):
            own, apart[place] = network(gradient[place : place + 1], apart[place])
            torch.testing.assert_close(update[place : place + 1], own)


LIMITS = [(WEIGHTS_FILE, MAX_WEIGHT_BYTES), (CONFIG_FILE, MAX_CONFIG_BYTES)]


@pytest.mark.parametrize(("name", "limit"), LIMITS)
def test_an_oversized_or_missing_file_is_refused(folder: Path, name: str, limit: int) -> None:
    os.truncate(folder / name, limit + 1)
    assert f"larger than {limit} bytes" in refusal(folder)
    (folder / name).unlink()
    assert name in refusal(folder)


@pytest.mark.parametrize("name", [WEIGHTS_FILE, CONFIG_FILE])
def test_every_sampled_cut_and_bit_flip_is_refused(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for place in range(0, len(whole), 37):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        for damaged in (whole[:place], bytes(flipped)):
            (folder / name).write_bytes(damaged)
            refusal(folder)


NETWORKS: tuple[Any, ...] = (
    None,
    [],
    {},
    {"layers": 0},
    {"layers": 9},
    {"layers": True},
    {"hidden": 1 << 40},
    {"hidden": 5.0},
    {"hidden": 6},
    {"layers": 3},
    {"scale": float("nan")},
    {"scale": "0.1"},
    {"p": -1.0},
    {"surprise": 1},
)


@pytest.mark.parametrize(
    "changes",
    [{"schema": "rl-lr-coordinate-0"}, {"format": 2}, {"surprise": 1}, {"provenance": None}, {"schema": None}]
    + [{"network": network} for network in NETWORKS],
    ids=str,
)
def test_a_configuration_that_does_not_fit_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    forge(folder)
    CoordinatePolicy.load(folder)
    if isinstance(changes.get("network"), dict) and changes["network"]:
        whole = json.loads((folder / CONFIG_FILE).read_text())["network"]
        changes = {"network": whole | changes["network"]}
    forge(folder, **changes)
    refusal(folder)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("head.bias", torch.tensor([float("nan")])),
        ("head.bias", torch.zeros(1, dtype=torch.float64)),
        ("head.bias", torch.zeros(2)),
        ("head.bias", None),
        ("surplus", torch.zeros(1)),
    ],
)
def test_weights_that_are_no_network_are_refused(folder: Path, name: str, tensor: Tensor | None) -> None:
    tensors: dict[str, Any] = safetensors.torch.load_file(folder / WEIGHTS_FILE) | {name: tensor}
    kept = {key: value for key, value in tensors.items() if value is not None}
    safetensors.torch.save_file(kept, folder / WEIGHTS_FILE)
    forge(folder)
    assert WEIGHTS_FILE in refusal(folder)


def test_an_unknown_name_or_a_file_is_refused(tmp_path: Path) -> None:
    assert "name one that ships with rl-lr (quadratics, sigmoid-mlp)" in refusal("no-such-policy")
    (tmp_path / "policy.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert "never loaded" in refusal(tmp_path / "policy.pkl")


def test_policies_of_the_two_kinds_are_told_apart(tmp_path: Path, folder: Path) -> None:
    network = Policy.keep().save(tmp_path / "network")
    assert "load it by rl_lr.Policy.load" in refusal(network)
    with pytest.raises(PolicyFileError, match=r"use it as rl_lr\.coordinate\.LearnedOptimizer"):
        Policy.load(folder)


def test_a_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(PolicyFileError, match="could not be saved"):
        make().save(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("name", ["quadratics", "sigmoid-mlp"])
def test_shipped_policies_say_how_they_were_trained(name: str) -> None:
    policy = CoordinatePolicy.load(name)
    facts = policy.provenance
    assert facts["command"].startswith("rl-lr train --agent unroll --granularity coordinate")
    assert facts["commit"]
    assert not facts["commit"].endswith("dirty")
    assert shipped_policies() == ["quadratics", "sigmoid-mlp"]
    import rl_lr

    place = Path(rl_lr.__file__).parent / "policies" / "coordinate" / name
    assert policy.sha256 in (place / "README.md").read_text()
    assert json.loads((place / CONFIG_FILE).read_text())["schema"] == COORDINATE_SCHEMA
