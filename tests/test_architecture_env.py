"""The environment in which a network is designed."""

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3.common.env_checker
from design import small_judge
from gymnasium.utils.env_checker import check_env

from rl_lr.design.cells import CellSpace
from rl_lr.design.children import Judge, Training
from rl_lr.design.problems import Source
from rl_lr.envs import ARCHITECTURE_ENV_ID, ArchitectureEnv


@pytest.fixture
def env() -> ArchitectureEnv:
    made = gym.make(ARCHITECTURE_ENV_ID, judge=small_judge(), render_mode="ansi").unwrapped
    assert isinstance(made, ArchitectureEnv)
    return made


def test_it_keeps_the_contract_of_gymnasium_and_of_stable_baselines3(env: ArchitectureEnv) -> None:
    check_env(env)
    stable_baselines3.common.env_checker.check_env(env)


def test_each_action_adds_a_layer_and_the_end_pays_the_accuracy(env: ArchitectureEnv) -> None:
    words = env.space.words
    first, info = env.reset()
    assert first.tolist() == [0, 0, 0]
    assert [words[one] for one in np.flatnonzero(info["action_mask"])] == list(words)
    second, reward, terminated, truncated, info = env.step(words.index("conv(2,3)"))
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert second.tolist() == [words.index("conv(2,3)") + 1, 0, 0]
    env.step(words.index("pool(2)"))
    assert env.render() == "conv(2,3) pool(2)"
    assert [words[one] for one in np.flatnonzero(env.action_masks())] == ["end"]
    _, reward, terminated, _, info = env.step(words.index("end"))
    assert terminated
    assert info["design"] == "conv(2,3) pool(2)"
    assert reward == env.judge(env.judge.problem.parse("conv(2,3) pool(2)")).reward > 0
    assert not info["action_mask"].any()


def test_an_illegal_action_ends_the_episode_unpaid_and_says_why(env: ArchitectureEnv) -> None:
    env.reset()
    pool = env.space.words.index("pool(2)")
    env.step(pool)
    _, reward, terminated, _, info = env.step(pool)
    assert (reward, terminated) == (0.0, True)
    assert info["refused"].startswith("pool(2) cannot come after pool(2): take one of conv(2,3), dense(4)")
    assert env.judge.trained == 0


def test_cells_are_designed_in_the_same_environment() -> None:
    problem = Source(CellSpace(2), width=4, length=6)
    env = ArchitectureEnv(Judge(problem, Training(steps=2, seeds=(0,))))
    _, info = env.reset()
    terminated, reward = False, 0.0
    while not terminated:
        action = int(np.flatnonzero(info["action_mask"])[0])
        _, reward, terminated, _, info = env.step(action)
    assert info["design"] == "add-identity add-identity add-identity | add-identity at 0, keep 0"
    assert 0 <= reward < 1
