"""PPO and DQN learn from the same episodes and export the same kind of policy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import TINY

import rl_lr
from rl_lr.agents import DQNAgent, PPOAgent
from rl_lr.agents.standing import STANDING
from rl_lr.config import DQNConfig, DrawConfig, TrainConfig
from rl_lr.episodes import Episode, Plan, joined, play
from rl_lr.exploration import EpsilonGreedy
from rl_lr.policy import Policy
from rl_lr.signals import NUM_SIGNALS
from rl_lr.tasks.families import quadratic

OBSERVATIONS = np.random.default_rng(0).normal(size=(32, NUM_SIGNALS)).astype(np.float32)
DQN = replace(TINY, agent="dqn")
PLAN = Plan(((quadratic, 1.0),), TINY.draw, TINY.control, TINY.group_size, TINY.seed)


def test_ppo_exports_what_sb3_predicts(tmp_path: Path) -> None:
    agent = PPOAgent(TINY, tmp_path)
    policy = agent.policy({}, "untrained")
    whatever = np.random.default_rng(1).normal(size=(32, len(STANDING)))  # the critic's affair
    predicted, _ = agent.model.predict(np.concatenate((OBSERVATIONS, whatever), axis=1), deterministic=True)
    np.testing.assert_allclose(
        policy.act(torch.from_numpy(OBSERVATIONS)).numpy(), predicted[:, 0], rtol=0, atol=1e-6
    )


def test_dqn_exports_what_sb3_predicts_also_through_a_file(tmp_path: Path) -> None:
    agent = DQNAgent(DQN, tmp_path)
    folder = agent.policy({}, "untrained").save(tmp_path / "policy")
    predicted, _ = agent.model.predict(OBSERVATIONS, deterministic=True)
    acted = Policy.load(folder).act(torch.from_numpy(OBSERVATIONS)).numpy()
    np.testing.assert_array_equal(acted, np.array(DQN.dqn.choices, np.float32)[predicted])
    assert len(set(predicted.tolist())) > 1


def test_dqn_acts_at_random_at_first_and_by_what_it_learned_at_last(tmp_path: Path) -> None:
    agent = DQNAgent(DQN, tmp_path)
    first, last = (agent.orders(iteration)[0].exploration for iteration in (0, DQN.iterations - 1))
    assert isinstance(first, EpsilonGreedy)
    assert isinstance(last, EpsilonGreedy)
    assert first.epsilon == 1.0
    assert last.epsilon == DQN.dqn.epsilon


def test_dqn_remembers_the_episodes_of_its_last_iterations(tmp_path: Path) -> None:
    agent = DQNAgent(DQN, tmp_path)
    made: list[list[Episode]] = []
    for iteration in range(3):  # one more than it remembers
        made.append([play(PLAN, order) for order in agent.orders(iteration)])
        agent.update(made[-1], iteration)
    buffer = agent.model.replay_buffer
    assert buffer is not None
    assert buffer.full
    decisions = DQN.control.decision_count
    observations, actions, rewards = joined(made[2])
    np.testing.assert_array_equal(buffer.observations[:decisions], observations)
    np.testing.assert_array_equal(buffer.rewards[:decisions], rewards)
    taken = np.array(DQN.dqn.choices, np.float32)[buffer.actions[:decisions, :, 0]]
    np.testing.assert_array_equal(taken, actions)
    assert buffer.dones[:decisions].sum(axis=0).tolist() == [1.0] * DQN.runs
    np.testing.assert_array_equal(buffer.next_observations[: decisions - 1], observations[1:])


def test_dqn_learns_which_choice_pays(tmp_path: Path) -> None:
    """Episodes whose every decision pays exactly the action taken: the highest is worth most everywhere."""
    config = replace(DQN, dqn=DQNConfig(memory=2, minibatch=256, updates=300, target_every=50, returns=1))
    agent, rng = DQNAgent(config, tmp_path), np.random.default_rng(0)
    shape = (config.control.decision_count, config.runs)
    actions = np.array(config.dqn.choices, np.float32)[rng.integers(5, size=shape)]
    observations = rng.normal(size=(*shape, NUM_SIGNALS)).astype(np.float32)
    agent.update([Episode(observations, actions, actions, np.zeros(8), np.ones(8), np.ones(8), 60)], 0)
    acted = agent.policy({}, "").act(torch.from_numpy(observations).flatten(0, 1))
    assert (acted == 1.0).float().mean() > 0.9


def test_a_little_q_learning_beats_doing_nothing_from_wrong_rates(tmp_path: Path) -> None:
    config = TrainConfig(
        agent="dqn",
        members=1,
        iterations=6,
        groups=4,
        group_size=16,
        validate_every=6,
        validation_groups=4,
        dqn=DQNConfig(minibatch=512, updates=200),
        draw=DrawConfig(min_steps=100, max_steps=200),
    )
    policy = rl_lr.train(tmp_path, [quadratic], config)
    assert policy.provenance["agent"] == "DQN (stable-baselines3)"
    assert policy.provenance["validation"]["regret_to_same_rate"] < -0.2


def test_an_unknown_agent_is_refused() -> None:
    with pytest.raises(ValueError, match="choose 'ppo' or 'dqn'"):
        replace(TINY, agent="sarsa")  # type: ignore[arg-type]
