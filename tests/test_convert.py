"""From a zip file of stable-baselines3 to a policy folder, only with trust."""

import os
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

import rl_lr.envs  # noqa: F401  # registers the environment
from rl_lr.agents.convert import convert
from rl_lr.policy import Policy, PolicyFileError
from rl_lr.signals import NUM_SIGNALS


@pytest.fixture
def trained(tmp_path: Path) -> PPO:
    """A model that a user of Gymnasium and stable-baselines3 trained, not knowing of ``rl-lr train``."""
    env = gym.make("rl_lr/LearningRate-v0", task="digits-linear")
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0, device="cpu")
    model.learn(64)
    model.save(tmp_path / "model.zip")
    return model


def test_a_converted_policy_acts_as_the_model_does(trained: PPO, tmp_path: Path) -> None:
    policy = Policy.load(convert(tmp_path / "model.zip", tmp_path / "policy", trust=True))
    signals = np.random.default_rng(0).normal(size=(20, NUM_SIGNALS)).astype(np.float32)
    theirs, _ = trained.predict(signals, deterministic=True)
    assert torch.allclose(policy.act(torch.from_numpy(signals)), torch.from_numpy(theirs[:, 0]), atol=1e-6)


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("exploded",)


def test_without_trust_nothing_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("bomb.zip", "w") as archive:
        archive.writestr("data", cloudpickle.dumps(Bomb()))
        archive.writestr("policy.pth", cloudpickle.dumps(Bomb()))
    with pytest.raises(PolicyFileError, match="can run code when it is opened: pass --trust"):
        convert(Path("bomb.zip"), Path("out"), trust=False)
    assert not Path("exploded").exists()
    assert not Path("out").exists()


def test_what_is_no_such_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.zip").write_bytes(b"junk")
    with pytest.raises(PolicyFileError, match=r"cannot be opened as a PPO model"):
        convert(tmp_path / "junk.zip", tmp_path / "out", trust=True)
    PPO("MlpPolicy", gym.make("CartPole-v1"), device="cpu").save(tmp_path / "cart.zip")
    with pytest.raises(PolicyFileError, match="actor has 4 inputs and 2 outputs"):
        convert(tmp_path / "cart.zip", tmp_path / "out", trust=True)
