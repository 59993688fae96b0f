"""How runs stand in their group, in a group whose standings are known."""

import numpy as np
import torch

from rl_lr.agents.standing import STANDING, standing
from rl_lr.config import ControlConfig, DrawConfig
from rl_lr.episodes import Episode, Order, Plan, play
from rl_lr.exploration import Gaussian
from rl_lr.policy import Policy
from rl_lr.reward import paired_rewards, relative_score
from rl_lr.signals import NUM_SIGNALS, SIGNALS
from rl_lr.tasks.families import quadratic

CONTROL = ControlConfig()


def episode() -> Episode:
    """Four runs over three decisions; the last run has the highest rate, gains least and ends worst."""
    observations = np.zeros((3, 4, NUM_SIGNALS), np.float32)
    observations[1:, 3, SIGNALS.index("offset")] = 3.0 / CONTROL.bound  # three nats up at the first decision
    drops = torch.tensor([[0.5, 0.4, 0.3, 0.0], [0.2, 0.1, 0.0, -0.3], [0.0, 0.0, 0.0, 0.0]])
    initial, final = torch.ones(4), torch.tensor([0.3, 0.4, 0.5, 0.9])
    rewards = paired_rewards(drops, final, initial).numpy()
    actions = np.zeros((3, 4), np.float32)
    return Episode(observations, actions, rewards, np.zeros(4), np.ones(4), final.double().numpy(), 60)


def column(name: str) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return standing(episode(), CONTROL)[..., STANDING.index(name)]


def test_the_rate_is_told_beside_that_of_the_others_and_of_the_best() -> None:
    np.testing.assert_allclose(column("rate")[0], 0.0)
    np.testing.assert_allclose(column("rate")[1:, 3], 1.0, rtol=1e-6)  # three nats
    np.testing.assert_allclose(column("rate")[1:, 0], -1.0 / 3.0, rtol=1e-6)
    np.testing.assert_allclose(column("best_rate")[1:, 3], 1.0, rtol=1e-6)
    np.testing.assert_allclose(column("best_rate")[1:, 1], 0.0)  # the best other is run 0, as low


def test_what_was_gained_counts_from_the_next_decision_on() -> None:
    np.testing.assert_allclose(column("ahead")[0], 0.0)
    ahead, best_ahead = column("ahead")[1], column("best_ahead")[1]
    assert ahead[0] > ahead[1] > 0 > ahead[3]
    assert best_ahead[3] < best_ahead[2] < 0 < best_ahead[0]


def test_the_spread_is_that_of_the_others() -> None:
    final = torch.tensor([0.3, 0.4, 0.5, 0.9]).double()
    ends = relative_score(final, torch.ones(4).double()).numpy()
    np.testing.assert_allclose(column("spread")[:, 3], ends[:3].std(), rtol=1e-6)


def test_a_played_episode_stands_finite_and_on_average_in_the_middle() -> None:
    plan = Plan(((quadratic, 1.0),), DrawConfig(60, 90), CONTROL, group_size=6, seed=0)
    columns = standing(play(plan, Order(Policy.load("default"), Gaussian(0.5), 0, 0)), CONTROL)
    assert columns.shape == (56, 6, len(STANDING))
    assert np.isfinite(columns).all()
    np.testing.assert_allclose(columns[..., STANDING.index("ahead")].mean(axis=1), 0.0, atol=0.5)
