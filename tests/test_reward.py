"""What a policy is paid."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_lr.reward import FLOOR, WORST, paired_rewards, relative_score, score

WORST_SCORE = math.log(WORST + FLOOR)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(4.0, math.log(1 + FLOOR)), (2.0, math.log(0.5 + FLOOR)), (0.0, math.log(FLOOR)), (40.0, WORST_SCORE)],
)
def test_the_score_is_the_log_of_the_floored_ratio(loss: float, expected: float) -> None:
    assert float(score(*torch.tensor([loss, 4.0]).double())) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e30, 41.0])
def test_a_diverged_run_scores_worst(loss: float) -> None:
    assert float(score(torch.tensor(loss), torch.tensor(4.0))) == pytest.approx(WORST_SCORE, rel=1e-6)


def test_below_the_floor_progress_hardly_counts() -> None:
    scores = score(torch.tensor([1.0, 0.1, 0.01, 1e-4, 1e-6]), torch.tensor(1.0))
    gains = -scores.diff()
    assert gains[0] > 2.0
    assert gains[-1] < 0.05
    assert (gains > 0).all()


def test_the_rewards_of_a_run_sum_to_its_final_result() -> None:
    losses = torch.tensor([3.0, 5.0, math.inf, 1.0, 0.2, 0.4], dtype=torch.float64)
    scores = score(losses, losses[0])
    rewards = scores[:-1] - scores[1:]
    assert float(rewards.sum()) == pytest.approx(-math.log(0.4 / 3.0 + FLOOR) + math.log(1 + FLOOR))


@given(st.floats(), st.floats())
def test_any_losses_score_between_the_floor_and_the_worst(loss: float, initial: float) -> None:
    value = score(*torch.tensor([loss, initial], dtype=torch.float64))
    assert math.log(FLOOR) - 1e-9 <= float(value) <= WORST_SCORE + 1e-9


@given(st.floats(1e-3, 1e3), st.floats(0, 1e3), st.floats(0, 1e3))
def test_a_lower_loss_never_scores_worse(initial: float, one: float, other: float) -> None:
    low, high = score(torch.tensor(sorted((one, other)), dtype=torch.float64), torch.tensor(initial))
    assert low <= high


def test_relative_score_ranks_a_group_and_forgives_nobody_a_lost_run() -> None:
    loss = torch.tensor([[2.0, 2.5, 4.0, float("nan"), float("inf")]])
    standing = relative_score(loss, torch.tensor([[4.0]]))
    expected = [math.log(0.01), math.log(0.26), math.log(1.01), math.log(10.01), math.log(10.01)]
    assert standing[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_relative_score_of_a_group_that_got_nowhere_is_finite() -> None:
    assert relative_score(torch.full((1, 3), 5.0), torch.full((1, 3), 2.0)).isfinite().all()
    assert relative_score(torch.full((1, 3), float("nan")), torch.full((1, 3), 2.0)).isfinite().all()


def test_paired_rewards_sum_to_zero_at_every_decision_and_add_up_to_the_relative_standing() -> None:
    generator = torch.Generator().manual_seed(0)
    initial = torch.full((4,), 2.0).double()
    final = torch.tensor([0.5, 1.0, 1.5, math.nan]).double()
    rewards = torch.randn(3, 4, generator=generator).double()
    rewards += (
        score(initial, initial) - score(final, initial) - rewards.sum(dim=0)
    ) / 3  # as a rollout's sum
    paired = paired_rewards(rewards, final, initial)
    torch.testing.assert_close(paired.sum(dim=1), torch.zeros(3).double())
    standing = score(initial, initial) - relative_score(final, initial)
    torch.testing.assert_close(paired.sum(dim=0), (standing - standing.mean()) * 4 / 3)
