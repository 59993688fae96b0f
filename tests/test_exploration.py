"""What is drawn before an episode decides how its actions stray."""

import numpy as np
import pytest
import torch

from rl_lr.exploration import EpsilonGreedy, Gaussian
from rl_lr.policy import Policy
from rl_lr.signals import NUM_SIGNALS

SIGNALS = torch.zeros(1000, NUM_SIGNALS)


def test_gaussian_actions_scatter_around_the_policy() -> None:
    exploration = Gaussian(0.3)
    drawn = exploration.draw(np.random.default_rng(0), 2, 1000)
    actions = exploration.act(Policy.keep(), SIGNALS, drawn[1])
    assert float(actions.mean()) == pytest.approx(0.0, abs=0.03)
    assert float(actions.std()) == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
def test_epsilon_greedy_strays_in_its_share_of_decisions_to_any_choice(epsilon: float) -> None:
    exploration = EpsilonGreedy(epsilon, (-1.0, 0.5, 1.0))
    drawn = exploration.draw(np.random.default_rng(0), 2, 1000)
    actions = exploration.act(Policy.keep(), SIGNALS, drawn[0])  # who never says any of the choices
    assert float((actions != 0.0).float().mean()) == pytest.approx(epsilon, abs=0.05)
    for choice in exploration.choices:
        assert float((actions == choice).float().mean()) == pytest.approx(epsilon / 3, abs=0.05)
