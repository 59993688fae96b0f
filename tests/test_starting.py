from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_training import TINY, assert_same_weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_lr import Policy, train
from rl_lr.agents import PPOAgent
from rl_lr.config import TrainConfig
from rl_lr.starting import best_policy, starting_point

MEASURED = replace(TINY, members=2, validate_every=1, validation_groups=1)
TASKS = ["digits-linear"]


def kept(out: Path) -> list[Policy]:
    return [Policy.load(folder) for folder in sorted((out / "checkpoints").iterdir())]


def test_ppo_begins_from_the_actions_of_the_policy(tmp_path: Path) -> None:
    start, config = starting_point("default", MEASURED)
    assert start is not None
    signals = torch.randn(20, start.layers[0][0].shape[1], generator=torch.Generator().manual_seed(0))
    begun = PPOAgent(config, tmp_path, start=start).policy({}, "begun")
    assert torch.equal(begun.act(signals), start.act(signals))


def test_at_first_only_the_critic_learns(tmp_path: Path) -> None:
    train(tmp_path, TASKS, MEASURED, start="default")
    start, after_one, after_two = kept(tmp_path)[:3]
    assert_same_weights(start, Policy.load("default"))
    assert_same_weights(after_one, start)
    assert not torch.equal(after_two.layers[0][0], start.layers[0][0])


def test_what_comes_out_is_the_best_measured_and_never_worse_than_the_start(tmp_path: Path) -> None:
    policy = train(tmp_path, TASKS, MEASURED, start="default")
    regrets = [one.provenance["validation"]["regret_to_best_rate"] for one in kept(tmp_path)]
    assert len(regrets) == 1 + MEASURED.iterations  # one member
    assert policy.provenance["validation"]["regret_to_best_rate"] == min(regrets) <= regrets[0]
    assert policy.provenance["start"] == Policy.load("default").sha256


def test_of_two_alike_the_earlier_is_kept_and_those_not_measured_do_not_count() -> None:
    keep = Policy.keep()
    candidates = [
        replace(keep, provenance={"which": which, "validation": figures})
        for which, figures in ((0, {}), (1, {"regret_to_best_rate": 0.1}), (2, {"regret_to_best_rate": 0.1}))
    ]
    assert best_policy(candidates, "mine").provenance["which"] == 1


def test_a_training_that_is_resumed_ends_with_the_same_policy(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", TASKS, MEASURED, start="default")
    train(tmp_path / "parts", TASKS, MEASURED, start="default", should_stop=lambda: True)
    resumed = train(tmp_path / "parts", resume=True)
    assert_same_weights(whole, resumed)
    assert_same_weights(kept(tmp_path / "whole")[-1], kept(tmp_path / "parts")[-1])


def test_what_an_interruption_measured_beside_the_plan_is_not_what_comes_out(tmp_path: Path) -> None:
    planned = replace(MEASURED, validate_every=3)  # at the start and at the end
    whole = train(tmp_path / "whole", TASKS, planned, start="default")
    train(tmp_path / "parts", TASKS, planned, start="default", should_stop=lambda: True)
    train(tmp_path / "parts", should_stop=lambda: True, resume=True)
    resumed = train(tmp_path / "parts", resume=True)
    assert resumed.provenance["iterations"] == whole.provenance["iterations"]
    assert_same_weights(whole, resumed)
    events = EventAccumulator(str(tmp_path / "whole" / "tensorboard")).Reload()
    assert [one.step for one in events.Scalars("validation/regret_to_best_rate")] == [0, 3]


@pytest.mark.parametrize(
    ("start", "config", "reason"),
    [
        ("default", replace(MEASURED, agent="dqn"), "Only PPO begins from a policy"),
        ("dqn", MEASURED, "Only PPO begins from a policy"),
        ("default", TINY, "validate_every is 0"),
        ("nowhere", MEASURED, "There is no policy 'nowhere'"),
    ],
)
def test_what_nothing_can_begin_from_is_refused_before_anything_is_written(
    start: str, config: TrainConfig, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        train(tmp_path / "out", TASKS, config, start=start)
    assert not (tmp_path / "out").exists()
