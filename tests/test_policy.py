"""Policies: acting, round trips, and every fault of a policy folder."""

import hashlib
import json
import os
import pickle
import re
import resource
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from rl_lr.config import ControlConfig
from rl_lr.policy import (
    CONFIG_FILE,
    MAX_CONFIG_BYTES,
    MAX_WEIGHT_BYTES,
    WEIGHTS_FILE,
    Policy,
    PolicyFileError,
)
from rl_lr.signals import NUM_SIGNALS

MakePolicy = Callable[[int], Policy]


@pytest.fixture
def folder(tmp_path: Path, make_policy: MakePolicy) -> Path:
    return make_policy(1).save(tmp_path / "policy")


def refusal(source: str | Path) -> str:
    """The message with which ``source`` is refused: one sentence, whatever the fault."""
    with pytest.raises(PolicyFileError) as caught:
        Policy.load(source)
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


def test_keep_never_moves_the_offset() -> None:
    policy = Policy.keep(ControlConfig(bound=3.0))
    assert policy.act(5 * torch.randn(7, NUM_SIGNALS)).tolist() == [0.0] * 7
    assert policy.control.bound == 3.0


def test_acting_equals_an_independent_numpy_network(make_policy: MakePolicy) -> None:
    policy, signals = make_policy(1), 5 * torch.randn(200, NUM_SIGNALS)
    x = signals.double().numpy()
    for index, (weight, bias) in enumerate(policy.layers):
        x = x @ weight.double().numpy().T + bias.double().numpy()
        x = np.clip(x, -1, 1) if index == 2 else np.tanh(x)
    assert np.abs(x).min() < 0.5
    assert np.abs(x).max() == 1.0
    np.testing.assert_allclose(policy.act(signals).numpy(), x[:, 0], atol=2e-6)


def test_a_network_for_other_signals_is_refused() -> None:
    with pytest.raises(ValueError, match="has 3 inputs, and there are 32 signals: give it a first layer"):
        Policy(((torch.zeros(1, 3), torch.zeros(1)),))


def test_saving_and_loading_gives_the_same_bits(tmp_path: Path, make_policy: MakePolicy) -> None:
    policy = make_policy(1)
    loaded = Policy.load(policy.save(tmp_path / "deep" / "folder"))
    for (weight, bias), (weight_0, bias_0) in zip(loaded.layers, policy.layers, strict=True):
        assert torch.equal(weight, weight_0)
        assert torch.equal(bias, bias_0)
    assert (loaded.control, loaded.provenance) == (policy.control, policy.provenance)
    assert loaded.sha256 == policy.sha256


@pytest.mark.parametrize("name", ["no-such-policy", "no/such/folder", "x" * 300, "nul\0byte"])
def test_an_unknown_name_is_refused(name: str) -> None:
    assert "There is no policy" in refusal(name)


LIMITS = [(WEIGHTS_FILE, MAX_WEIGHT_BYTES), (CONFIG_FILE, MAX_CONFIG_BYTES)]


@pytest.mark.parametrize(("name", "limit"), LIMITS)
def test_an_oversized_or_missing_file_is_refused(folder: Path, name: str, limit: int) -> None:
    os.truncate(folder / name, limit + 1)
    assert f"larger than {limit} bytes" in refusal(folder)
    (folder / name).unlink()
    assert name in refusal(folder)
    (folder / name).mkdir()
    assert name in refusal(folder)


@pytest.mark.parametrize("name", [WEIGHTS_FILE, CONFIG_FILE])
def test_every_sampled_cut_and_bit_flip_is_refused(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for place in range(0, len(whole), 13):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        for damaged in (whole[:place], bytes(flipped)):
            (folder / name).write_bytes(damaged)
            refusal(folder)
    (folder / name).write_bytes(whole)
    Policy.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "null", "[]", "{}", '{"schema": 1}', "\udcff"])
def test_a_configuration_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / CONFIG_FILE).write_bytes(text.encode(errors="surrogateescape"))
    assert CONFIG_FILE in refusal(folder)


HIDDEN = (None, 8, [8], [8, 6, 6], [6, 8], ["a", "b"], [float("inf"), 6])
CONTROL: tuple[Any, ...] = (None, [], {}, {"step": 1.0})
UNKNOWN: tuple[dict[str, Any], ...] = ({"surprise": 1.0}, {"step": "high"}, {"step": None})
USELESS = ({"bound": float("nan")}, {"bound": -1.0}, {"warmup_floor": 0.0}, {"decisions": 44.5})
CHOICES: tuple[Any, ...] = ("all", [2.0], [True], [float("nan")], [0.0, 1.0], [0.0] * 65)
OTHERS = ({"schema": "rl-lr-signals-0"}, {"signals": ["progress"]}, {"format": 2}, {"surprise": 1})


@pytest.mark.parametrize(
    "changes",
    [*OTHERS, {"provenance": None}]
    + [{"hidden": hidden} for hidden in HIDDEN]
    + [{"choices": choices} for choices in CHOICES]
    + [{"control": control} for control in CONTROL]
    + [{"control": asdict(ControlConfig()) | odd} for odd in UNKNOWN + USELESS],
    ids=str,
)
def test_a_configuration_that_does_not_fit_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    forge(folder)
    Policy.load(folder)
    forge(folder, **changes)
    refusal(folder)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("layers.0.weight", torch.full((8, NUM_SIGNALS), float("nan"))),
        ("layers.2.bias", torch.tensor([float("nan")])),
        ("layers.2.bias", torch.tensor([float("inf")])),
        ("layers.2.bias", torch.zeros(1, dtype=torch.float64)),
        ("layers.2.bias", torch.zeros(1, dtype=torch.int64)),
        ("layers.2.bias", torch.zeros(2)),
        ("layers.2.bias", torch.zeros(())),
        ("layers.1.bias", None),
        ("surplus", torch.zeros(1)),
    ],
)
def test_weights_that_are_no_network_are_refused(folder: Path, name: str, tensor: Tensor | None) -> None:
    tensors: dict[str, Any] = safetensors.torch.load_file(folder / WEIGHTS_FILE) | {name: tensor}
    kept = {key: value for key, value in tensors.items() if value is not None}
    safetensors.torch.save_file(kept, folder / WEIGHTS_FILE)
    forge(folder)
    assert WEIGHTS_FILE in refusal(folder)


class Bomb:
    """Its pickle creates the folder ``exploded`` when it is opened."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, ("exploded",)


def test_files_that_could_run_code_are_never_opened(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = pickle.dumps(Bomb())
    Path("policy.pkl").write_bytes(bomb)
    with zipfile.ZipFile("ppo.zip", "w") as archive:
        archive.writestr("policy.pth", bomb)
    for name in ("policy.pkl", "ppo.zip"):
        assert "never loaded" in refusal(name)
    (folder / WEIGHTS_FILE).write_bytes(bomb)
    forge(folder)
    assert WEIGHTS_FILE in refusal(folder)
    assert not Path("exploded").exists()
    pickle.loads(bomb)
    assert Path("exploded").exists()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond ``size`` bytes: what a full disk looks like."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # Python ignores SIGXFSZ
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_policy_whole(
    folder: Path, tmp_path: Path, make_policy: MakePolicy
) -> None:
    old, new = make_policy(1), make_policy(2)
    largest = max(path.stat().st_size for path in folder.iterdir())
    for size in (*range(0, largest, 101), largest - 1):
        for target in (folder, tmp_path / "empty"):
            with pytest.raises(PolicyFileError, match="could not be saved"), file_size_limit(size):
                new.save(target)
        assert Policy.load(folder).sha256 == old.sha256
        assert sorted(os.listdir(folder)) == [CONFIG_FILE, WEIGHTS_FILE]
        assert os.listdir(tmp_path / "empty") == []
    with file_size_limit(largest):
        new.save(folder)
    assert Policy.load(folder).sha256 == new.sha256 != old.sha256


def test_a_target_that_is_a_file_is_refused(tmp_path: Path, make_policy: MakePolicy) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(PolicyFileError, match="could not be saved"):
        make_policy(1).save(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"
