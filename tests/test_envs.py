"""The environments keep the contracts of Gymnasium and stable-baselines3."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gym_check
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check
from torch import nn

from rl_lr.config import ControlConfig, DrawConfig
from rl_lr.envs import ENV_ID, BatchedLearningRateEnv, DiscreteActions, LearningRateEnv
from rl_lr.envs.sb3 import SB3VecEnv
from rl_lr.optimizers import OptimizerSpec
from rl_lr.tasks import TensorTask, real_task
from rl_lr.tasks.families import quadratic
from rl_lr.tasks.tensors import squared_error

SHORT = DrawConfig(min_steps=60, max_steps=80)


def batched(num_envs: int = 8, group_size: int = 4, **settings: Any) -> BatchedLearningRateEnv:
    return BatchedLearningRateEnv(num_envs, quadratic, group_size, SHORT, **settings)


@pytest.mark.parametrize("task", ["digits-linear", None, real_task("digits-mlp"), quadratic])
def test_single_env_passes_both_checkers(task: Any) -> None:
    env = gym.make(ENV_ID, task=task, config=SHORT)
    gym_check(env.unwrapped)
    sb3_check(env.unwrapped)


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
@pytest.mark.filterwarnings("ignore:.*Not able to test alternative render modes")
def test_discrete_wrapper_passes_both_checkers_and_keeps_with_its_middle_choice() -> None:
    env = DiscreteActions(LearningRateEnv("digits-linear", SHORT))
    gym_check(env)
    sb3_check(env)
    env.reset(seed=0)
    for _ in range(10):
        env.step(np.int64(2))
    assert env.unwrapped.scheduler.controller.offset.item() == 0.0  # type: ignore[attr-defined]


def test_single_episode_ends_at_the_horizon_after_56_decisions() -> None:
    env = LearningRateEnv("digits-linear", SHORT)
    env.reset(seed=1)
    total, steps, over = 0.0, 0, False
    while not over:
        _, reward, over, truncated, info = env.step(np.zeros(1, np.float32))
        total, steps = total + reward, steps + 1
        assert not truncated
    assert steps == 56
    assert env.scheduler.controller.step == env.draw.total_steps
    gained = np.log(1.003) - np.log(info["final_loss"] / info["initial_loss"] + 0.003)
    assert total == pytest.approx(gained, abs=1e-6)  # rewards sum to the final result


def lose_the_weights(env: LearningRateEnv) -> None:
    env.reset(seed=1)
    env.optimizer.param_groups[0]["params"][0].data.fill_(float("nan"))


def test_a_run_whose_weights_are_lost_goes_back_to_the_last_decision() -> None:
    env = LearningRateEnv("digits-linear", SHORT)
    lose_the_weights(env)
    _, _, over, _, _ = env.step(np.ones(1, np.float32))
    assert not over
    assert all(p.isfinite().all() for p in env.objective.parameters())
    assert float(env.scheduler.controller.offset) == pytest.approx(2.0 - np.log(10.0))


def test_without_a_guard_it_terminates_with_the_worst_score() -> None:
    env = LearningRateEnv("digits-linear", SHORT, ControlConfig().unguarded)
    lose_the_weights(env)
    _, reward, over, _, _ = env.step(np.ones(1, np.float32))
    assert over
    assert reward == pytest.approx(np.log(1.003) - np.log(10.003))


def test_same_seed_same_episode_bit_for_bit_and_another_seed_another() -> None:
    def episode(seed: int) -> np.ndarray[Any, Any]:
        env = batched()
        rows = [env.reset(seed=seed)[0]]
        rng = np.random.default_rng(0)
        for _ in range(60):  # past the end of the first episode
            observation, reward, _, _, _ = env.step(rng.uniform(-1, 1, (8, 1)).astype(np.float32))
            rows.append(np.column_stack([observation[:, :-1], reward]))
        return np.concatenate([row.reshape(8, -1) for row in rows], axis=1)

    assert np.array_equal(episode(3), episode(3))
    assert not np.array_equal(episode(3), episode(4))


def test_batched_env_is_what_make_vec_makes_and_resets_within_the_last_step() -> None:
    env = gym.make_vec(
        ENV_ID, num_envs=4, vectorization_mode="vector_entry_point", task="digits-linear", config=SHORT
    )
    assert isinstance(env.unwrapped, BatchedLearningRateEnv)
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    for decision in range(56):
        observation, reward, done, truncated, infos = env.step(np.zeros((4, 1), np.float32))
        assert observation in env.observation_space
        assert reward.shape == (4,)
        assert not truncated.any()
        assert done.all() == (decision == 55)
    assert observation[0, 0] == -1.0  # progress of the next episode
    assert infos["final_obs"][0][0] == 1.0  # progress of the last
    assert infos["final_info"]["final_loss"].shape == (4,)


def test_every_extreme_action_gives_finite_observations_and_rewards() -> None:
    env = SB3VecEnv(batched())
    env.reset()
    for decision in range(56):
        observation, reward, _, _ = env.step(np.full((8, 1), 1.0 if decision % 7 else -1.0, np.float32))
        assert np.isfinite(observation).all()  # type: ignore[arg-type]
        assert np.isfinite(reward).all()


def test_sb3_adapter_hands_over_the_last_observation() -> None:
    env = SB3VecEnv(batched())
    env.reset()
    for _ in range(56):
        observation, _, done, infos = env.step(np.zeros((8, 1), np.float32))
    assert done.all()
    assert infos[3]["terminal_observation"][0] == 1.0
    assert np.asarray(observation)[3, 0] == -1.0
    assert infos[3]["final_loss"] > 0


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: batched(num_envs=6), "num_envs=6 is not a positive multiple of group_size=4"),
        (lambda: batched(num_envs=0), "num_envs=0"),
        (lambda: LearningRateEnv("cifar"), "no task 'cifar'"),
        (lambda: LearningRateEnv(3), "A task has name, optimizer"),  # type: ignore[arg-type]
        (lambda: BatchedLearningRateEnv(2, quadratic, config=DrawConfig(20, 30)), "min_steps=20 is shorter"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(make: Any, reason: str) -> None:
    with pytest.raises((ValueError, TypeError), match=reason):
        make()


def test_step_before_reset_says_so() -> None:
    with pytest.raises(gym.error.ResetNeeded, match="Call reset"):
        batched().step(np.zeros((8, 1), np.float32))


DROPPING = TensorTask(
    "dropping",
    OptimizerSpec("sgd", lr=0.1),
    batch_size=8,
    factory=lambda: nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 4)),
    tensors=(torch.randn(64, 4, generator=torch.Generator().manual_seed(0)),),
    criterion=squared_error,
)


@pytest.mark.parametrize("build", [LearningRateEnv, partial(BatchedLearningRateEnv, 4)])
def test_an_episode_with_dropout_depends_on_its_seed_alone(build: Any) -> None:
    def rewards(world: int) -> list[float]:
        torch.manual_seed(world)
        env = build(DROPPING, config=DrawConfig(60, 60))
        env.reset(seed=3)
        shape = env.action_space.shape
        before = torch.get_rng_state()
        seen = [float(np.sum(env.step(np.zeros(shape, np.float32))[1])) for _ in range(20)]
        assert torch.equal(torch.get_rng_state(), before)
        return seen

    assert rewards(0) == rewards(1)
