"""Draws, and runs stepped in parts."""

import numpy as np
import pytest
import torch

from rl_lr.config import DrawConfig
from rl_lr.rollout import Draw, Rollout, draw, split
from rl_lr.tasks import real_task
from rl_lr.tasks.families import quadratic
from rl_lr.tasks.task import central_rate


def test_base_rates_are_spread_evenly_over_the_whole_range() -> None:
    drawn = draw(quadratic, 16, np.random.default_rng(0), DrawConfig(misfactor=100.0))
    position = np.log(np.array(drawn.base_lrs) / central_rate(drawn.task)) / np.log(100.0)
    assert (np.floor((np.sort(position) + 1.0) * 8) == np.arange(16)).all()


def test_runs_too_many_for_the_cache_are_stepped_in_equal_parts_and_stay_what_they_were() -> None:
    task = real_task("source-transformer")
    drawn = Draw(task, tuple(range(40)), tuple(1e-3 * 1.1**k for k in range(40)), 60)
    whole, parts = Rollout(drawn), [Rollout(part) for part in split(drawn)]
    assert [part.engine.runs for part in parts] == [14, 14, 12]
    assert [seed for part in parts for seed in part.draw.seeds] == list(range(40))
    for _ in range(5):
        torch.testing.assert_close(
            torch.cat([part.signals() for part in parts]), whole.signals(), rtol=1e-2, atol=1e-2
        )
        rewards = torch.cat([part.advance(torch.zeros(part.engine.runs)) for part in parts])
        torch.testing.assert_close(rewards, whole.advance(torch.zeros(40)), rtol=1e-3, atol=1e-4)


def test_small_groups_are_stepped_as_one() -> None:
    drawn = Draw(real_task("digits-linear"), tuple(range(40)), (1e-3,) * 40, 60)
    assert split(drawn) == [drawn]


def test_runs_of_a_group_begin_alike_and_meet_the_same_batches() -> None:
    drawn = draw(quadratic, 6, np.random.default_rng(0), DrawConfig(60, 90))
    assert len(set(drawn.seeds)) == 1
    assert len(set(drawn.base_lrs)) == 6


@pytest.mark.parametrize(("budget", "longest"), [(1.0, 1200), (1e12, 3000)])
def test_a_task_that_is_dear_to_step_gets_shorter_runs(budget: float, longest: int) -> None:
    config = DrawConfig(min_steps=100, max_steps=3000, max_bytes=budget)
    steps = [draw(quadratic, 2, np.random.default_rng(seed), config).total_steps for seed in range(60)]
    assert 100 <= min(steps) < 120
    assert 0.8 * longest < max(steps) <= longest


def test_a_run_that_explodes_goes_back_and_ends_healthy_and_its_neighbours_do_not_notice() -> None:
    task = real_task("digits-linear")
    centre = task.optimizer.lr

    def final(factors: tuple[float, ...]) -> Rollout:
        drawn = Draw(task, (3,) * len(factors), tuple(centre * factor for factor in factors), 300)
        rollout = Rollout(drawn)
        while not rollout.done:
            up = torch.full((len(factors),), 0.1)
            rollout.signals()
            rollout.advance(up)  # whoever started too high goes higher still
        assert rollout.final_loss is not None
        return rollout

    alone, together = final((1e-3, 1e-2)), final((1e-3, 1e-2, 1e5))
    assert together.controller.rewinds.tolist()[:2] == [0, 0]
    assert int(together.controller.rewinds[2]) > 0
    assert together.final_loss is not None
    assert alone.final_loss is not None
    torch.testing.assert_close(together.final_loss[:2], alone.final_loss)
    assert float(together.final_loss[2]) < float(together.initial_loss[2])


def averaged(name: str, factors: tuple[float, ...], average: bool) -> Rollout:
    """Runs at base rates that nobody changes, under no schedule but the warm-up."""
    task = real_task(name)
    rates = tuple(task.optimizer.lr * factor for factor in factors)
    rollout = Rollout(Draw(task, (0,) * len(factors), rates, 400, "constant"), average=average)
    while not rollout.done:
        rollout.signals()
        rollout.advance(torch.zeros(len(factors)))
    return rollout


def test_averaged_weights_are_the_result_and_nothing_else_changes() -> None:
    last, mean = (averaged("digits-cnn", (1.0, 3.0), average) for average in (False, True))
    assert torch.equal(last.engine.weights, mean.engine.weights)
    assert last.final_loss is not None
    assert mean.final_loss is not None
    assert (mean.final_loss < last.final_loss).all()
    assert torch.equal(mean.look()[0], mean.final_loss)
    assert not torch.equal(mean.held_out_loss(), last.held_out_loss())
    assert torch.equal(mean.engine.evaluate().double(), last.final_loss)  # the weights are back


def test_the_average_of_a_run_that_goes_back_forgets_what_was_thrown_away() -> None:
    rollout = averaged("digits-linear", (1.0, 1e6), average=True)
    assert int(rollout.controller.rewinds[0]) == 0 < int(rollout.controller.rewinds[1])
    assert rollout.final_loss is not None
    assert (rollout.final_loss < rollout.initial_loss).all()
