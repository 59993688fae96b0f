"""Episodes are pure functions of plan and order, and fit into memory or are split."""

import os
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from rl_lr.config import ControlConfig, DrawConfig
from rl_lr.episodes import Order, Plan, Trial, final_scores, play
from rl_lr.exploration import Gaussian
from rl_lr.optimizers import OptimizerSpec
from rl_lr.policy import Policy
from rl_lr.signals import NUM_SIGNALS
from rl_lr.tasks import resolve
from rl_lr.tasks.families import images, quadratic
from rl_lr.tasks.tensors import TensorTask, squared_error

PLAN = Plan(((quadratic, 1.0), (images, 1.0)), DrawConfig(60, 90), ControlConfig(), group_size=4, seed=5)
ORDER = Order(Policy.load("default"), Gaussian(0.5), iteration=2, group=3)


def noisy() -> TensorTask:
    """A network that draws from torch's global generator at every step."""
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    return TensorTask(
        "noisy",
        OptimizerSpec("sgd", lr=0.1),
        8,
        lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1)),
        (x, x.sum(dim=1, keepdim=True)),
        squared_error,
    )


def test_shapes_are_decisions_by_runs() -> None:
    episode = play(PLAN, ORDER)
    assert episode.observations.shape == (56, 4, NUM_SIGNALS)
    assert episode.actions.shape == episode.rewards.shape == (56, 4)
    assert episode.initial_loss.shape == episode.final_loss.shape == (4,)
    for column in (episode.observations, episode.actions, episode.rewards):
        assert column.dtype == np.float32
        assert np.isfinite(column).all()


@pytest.mark.parametrize("family", [quadratic, images, resolve(noisy())])
def test_an_episode_is_the_same_to_the_bit_whatever_was_drawn_before(family: object) -> None:
    plan = replace(PLAN, families=((family, 1.0),))  # type: ignore[arg-type]
    first = play(plan, ORDER)
    random.random(), np.random.rand(), torch.rand(3)
    play(plan, replace(ORDER, group=1))
    second = play(plan, ORDER)
    for name in vars(first):
        assert np.array_equal(getattr(first, name), getattr(second, name), equal_nan=True)  # lost runs


@pytest.mark.parametrize("change", [{"iteration": 3}, {"group": 4}])
def test_every_place_in_a_training_has_its_own_runs(change: dict[str, int]) -> None:
    first, second = play(PLAN, ORDER), play(PLAN, replace(ORDER, **change))  # type: ignore[arg-type]
    assert not np.array_equal(first.initial_loss, second.initial_loss)


def test_actions_scatter_around_the_policy_by_the_standard_deviation_asked_for() -> None:
    plan = replace(PLAN, group_size=32, families=((quadratic, 1.0),))
    episode = play(plan, replace(ORDER, policy=Policy.keep(), exploration=Gaussian(0.3)))
    assert episode.actions.mean() == pytest.approx(0.0, abs=0.03)
    assert episode.actions.std() == pytest.approx(0.3, rel=0.05)


def test_what_is_played_without_exploring_ends_the_same_each_time_and_apart_from_training() -> None:
    trial = Trial(Policy.load("default"), group=0)
    scores = final_scores(PLAN, trial)
    assert scores.shape == (4,)
    assert np.array_equal(scores, final_scores(PLAN, trial))


def test_paid_for_averages_the_same_runs_are_worth_something_else() -> None:
    last, mean = play(PLAN, ORDER), play(replace(PLAN, averaged=True), ORDER)
    for name in ("observations", "actions", "initial_loss"):
        assert np.array_equal(getattr(last, name), getattr(mean, name))
    assert (last.final_loss != mean.final_loss).all()
    assert not np.array_equal(last.rewards, mean.rewards)
    trial = Trial(Policy.load("default"), group=0)
    assert (final_scores(PLAN, trial) != final_scores(replace(PLAN, averaged=True), trial)).all()


LIMITED = """
import resource, warnings
import numpy as np, torch
from torch import nn
torch.set_num_threads(1)
from rl_lr.config import ControlConfig, DrawConfig
from rl_lr.episodes import Order, Plan, play
from rl_lr.optimizers import OptimizerSpec
from rl_lr.exploration import Gaussian
from rl_lr.policy import Policy
from rl_lr.tasks import resolve
from rl_lr.tasks.tensors import TensorTask, squared_error

x = torch.randn(16, 512, generator=torch.Generator().manual_seed(0))
task = TensorTask("wide", OptimizerSpec("sgd", lr=1e-3), 4, lambda: nn.Linear(512, {width}), (x, torch.zeros(16, {width})), squared_error)
plan = Plan(((resolve(task), 1.0),), DrawConfig(60, 60), ControlConfig(), group_size=8, seed=0)
play(Plan(plan.families, plan.draw, plan.control, 2, 0), Order(Policy.keep(), Gaussian(0.5), 0, 0))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {room} * 2**20, -1))
episode = play(plan, Order(Policy.keep(), Gaussian(0.5), 0, 0))
print(episode.rewards.shape, np.isfinite(episode.rewards).all())
"""


def limited(width: int, room: int) -> "subprocess.CompletedProcess[str]":
    """Eight runs of a network with 512 × ``width`` weights in ``room`` MiB."""
    code = LIMITED.format(width=width, room=room)
    # what the first runs leave behind goes back at once, else the next ones fit into it
    freed = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    return subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=freed
    )


def test_a_group_that_does_not_fit_into_memory_is_played_in_halves_and_says_so() -> None:
    ended = limited(width=4096, room=280)  # 8 MiB of weights each, and several times that for a step
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "(56, 8) True"
    assert "8 runs of task 'wide' do not fit into memory at once: they are played in halves" in ended.stderr


def test_a_single_run_that_does_not_fit_is_told_with_its_task() -> None:
    ended = limited(width=4096, room=5)
    assert ended.returncode != 0
    assert "A single run of task 'wide' does not fit into memory" in ended.stderr
