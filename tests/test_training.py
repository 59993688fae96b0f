"""Training across runs: the smallest training that is real."""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import TINY, assert_same_weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rl_lr
from rl_lr.agents import Figures
from rl_lr.config import ControlConfig, DQNConfig, DrawConfig, PPOConfig, TrainConfig
from rl_lr.episodes import Plan, Trial, final_scores
from rl_lr.mean_policy import lifted
from rl_lr.optimizers import OptimizerSpec
from rl_lr.policy import Policy
from rl_lr.signals import NUM_SIGNALS
from rl_lr.tasks.families import quadratic
from rl_lr.validation import Validation
from rl_lr.workers import Local

MEASURED = replace(TINY, validate_every=3, validation_groups=2)


def test_training_exports_a_policy_its_card_its_curves_and_a_checkpoint_per_iteration(tmp_path: Path) -> None:
    reports: list[tuple[int, Figures]] = []
    policy = rl_lr.train(
        tmp_path, [quadratic], MEASURED, lambda done, figures: reports.append((done, dict(figures)))
    )
    loaded = Policy.load(tmp_path)
    assert loaded.sha256 == policy.sha256
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["00001", "00002", "00003"]
    assert Policy.load(tmp_path / "checkpoints" / "00003").sha256 == policy.sha256
    card = (tmp_path / "README.md").read_text()
    assert policy.sha256 in card
    assert "48 runs in 3 iterations" in card
    assert "Trained on the tasks named above" in card
    assert [done for done, _ in reports] == [1, 2, 3]
    assert "regret_to_same_rate" in reports[-1][1]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {
        "rollout/return",
        "rollout/decisions_per_second",
        "train/entropy_loss",
        "validation/regret_to_same_rate",
    } <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("rollout/return")] == [1, 2, 3]


@pytest.mark.parametrize("tasks", [None, ["built-in"]])
def test_the_card_knows_the_built_in_families_named_or_not(tmp_path: Path, tasks: list[str] | None) -> None:
    short = replace(TINY, iterations=1, draw=DrawConfig(min_steps=80, max_steps=80))
    rl_lr.train(tmp_path, tasks, short)
    assert "Trained on small networks and runs of 80 to 80 steps" in (tmp_path / "README.md").read_text()


def test_the_same_seed_trains_the_same_policy_bit_for_bit(tmp_path: Path) -> None:
    first = rl_lr.train(tmp_path / "a", [quadratic], TINY)
    second = rl_lr.train(tmp_path / "b", [quadratic], TINY)
    assert_same_weights(first, second)


def test_several_members_act_by_their_mean_and_differ(tmp_path: Path) -> None:
    policy = rl_lr.train(tmp_path, [quadratic], replace(TINY, members=2, iterations=1))
    first, second = (Policy.load(tmp_path / "checkpoints" / name) for name in ("00001", "00002"))
    signals = torch.randn(50, NUM_SIGNALS, generator=torch.Generator().manual_seed(0))
    mean = (first.mean(signals) + second.mean(signals)) / 2
    torch.testing.assert_close(Policy.load(tmp_path).mean(signals), mean)
    assert (first.mean(signals) - second.mean(signals)).abs().min() > 0
    assert policy.provenance["runs"] == 2 * TINY.runs
    assert policy.provenance["processor"].endswith(f", {torch.backends.cpu.get_cpu_capability()}")
    assert f"Processor: {policy.provenance['processor']}." in (tmp_path / "README.md").read_text()


def test_a_training_that_is_paid_for_averages_learns_something_else(tmp_path: Path) -> None:
    config = replace(TINY, iterations=1)
    last = rl_lr.train(tmp_path / "last", [quadratic], config)
    mean = rl_lr.train(tmp_path / "mean", [quadratic], replace(config, averaged=True))
    middle = torch.zeros(1, NUM_SIGNALS)
    assert float(last.mean(middle)) != float(mean.mean(middle))
    with pytest.raises(ValueError, match=r"started with averaged=True, not False"):
        rl_lr.train(tmp_path / "mean", [quadratic], config, resume=True)


def test_what_comes_of_a_training_is_lifted_and_its_checkpoints_are_not(tmp_path: Path) -> None:
    policy = rl_lr.train(tmp_path, [quadratic], replace(TINY, iterations=1, lift=0.1))
    kept = Policy.load(tmp_path / "checkpoints" / "00001")
    assert lifted(kept, 0.1).sha256 == policy.sha256
    middle = torch.zeros(1, NUM_SIGNALS)
    torch.testing.assert_close(
        policy.mean(middle) - kept.mean(middle), torch.tensor([0.1]), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("lift", [1.5, float("nan")])
def test_a_lift_that_is_no_share_of_an_action_is_refused(lift: float) -> None:
    with pytest.raises(ValueError, match=r"TrainConfig.lift is .*: actions are from -1 to 1"):
        replace(TINY, lift=lift)


def test_a_lift_of_what_cannot_be_lifted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lift is for agent 'ppo'"):
        replace(TINY, agent="dqn", lift=0.1)
    with pytest.raises(ValueError, match="leave lift at 0"):
        rl_lr.train(tmp_path, [quadratic], replace(MEASURED, lift=0.1), start="default")
    assert not list(tmp_path.iterdir())


def test_training_stops_when_asked_and_still_exports(tmp_path: Path) -> None:
    rl_lr.train(tmp_path, [quadratic], TINY, should_stop=lambda: True)
    assert Policy.load(tmp_path).provenance["iterations"] == 1


def test_a_little_training_beats_doing_nothing_from_wrong_rates(tmp_path: Path) -> None:
    config = replace(
        TINY,
        iterations=6,
        groups=4,
        group_size=16,
        ppo=PPOConfig(minibatch=896),
        validate_every=6,
        validation_groups=4,
        draw=DrawConfig(min_steps=100, max_steps=200),
    )
    policy = rl_lr.train(tmp_path, [quadratic], config)
    assert policy.provenance["validation"]["regret_to_same_rate"] < -0.2


def test_validation_finds_no_regret_in_the_base_schedule_itself() -> None:
    unguarded = ControlConfig(guard_ratio=float("inf"))
    plan, workers = Plan(((quadratic, 1.0),), TINY.draw, unguarded, group_size=6, seed=0), Local()
    workers.start(plan)
    figures = Validation(plan, workers, groups=2).measure(Policy.keep(unguarded))
    assert figures["regret_to_same_rate"] == 0.0
    assert figures["regret_to_best_rate"] > 0.0


def test_shipped_policy_beats_the_base_schedule_on_fresh_tasks_of_its_families() -> None:
    policy, gains = Policy.load("default"), []
    plan = Plan(((quadratic, 1.0),), DrawConfig(250, 300), policy.control, group_size=12, seed=99)
    for group in range(3):
        gains.append(
            final_scores(plan, Trial(Policy.keep(), group)) - final_scores(plan, Trial(policy, group))
        )
    assert np.concatenate(gains).mean() > 0.2


def test_rates_that_no_run_begins_at_have_no_figure() -> None:
    plan = Plan(((quadratic, 1.0),), DrawConfig(60, 60, misfactor=2.0), ControlConfig(), 2, 0)
    with closing(Local()) as workers:
        workers.start(plan)
        figures = Validation(plan, workers, 1).measure(Policy.keep())
    assert "regret_to_best_rate_x1" in figures
    assert "regret_to_best_rate_x0.01" not in figures


def test_shipped_policy_says_how_it_was_trained_and_measured() -> None:
    policy = Policy.load("default")
    facts = policy.provenance
    assert facts["command"].startswith("rl-lr train")
    assert facts["commit"]
    assert facts["minutes"] > 0
    assert facts["settings"]["seed"] == 0
    json.dumps(facts)
    card = (Path(rl_lr.__file__).parent / "policies" / "default" / "README.md").read_text()
    assert policy.sha256 in card


def test_a_folder_that_holds_a_training_is_not_trained_into_again(tmp_path: Path) -> None:
    rl_lr.train(tmp_path, [quadratic], replace(TINY, iterations=1))
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(
        ValueError, match=r"holds a training already: go on with it by --resume .* another folder"
    ):
        rl_lr.train(tmp_path, [quadratic], replace(TINY, iterations=2))
    assert (tmp_path / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: DrawConfig(max_steps=50), "max_steps is 50: give at least min_steps, which is"),
        (lambda: DrawConfig(min_steps=0), "min_steps is 0: give at least 1"),
        (lambda: DrawConfig(misfactor=0.0), "misfactor is 0.0: give at least 1"),
        (lambda: DrawConfig(max_bytes=0), "max_bytes is 0: give a positive number"),
        (lambda: DrawConfig(other_schedules=2.0), "other_schedules is 2.0: give a share of 1"),
        (lambda: PPOConfig(minibatch=1), "minibatch is 1: give at least 2"),
        (lambda: PPOConfig(epochs=0), "epochs is 0: give at least 1"),
        (lambda: PPOConfig(gae_lambda=1.5), "gae_lambda is 1.5: give from 0 to 1"),
        (lambda: DQNConfig(choices=()), r"choices is \(\): give 1 to 64 numbers from -1 to 1"),
        (lambda: DQNConfig(choices=(3.0, -2.0)), "give 1 to 64 numbers from -1 to 1"),
        (lambda: DQNConfig(target_every=0), "target_every is 0: give at least 1"),
        (lambda: TrainConfig(hidden=()), r"hidden is \(\): give the widths of one hidden layer or more"),
        (lambda: TrainConfig(hidden=(-4,)), "hidden is"),
        (lambda: TrainConfig(seed=-1), "seed is -1: give from 0 to"),
        (lambda: TrainConfig(draw=DrawConfig(20, 30)), "min_steps is 20, shorter than the 56 decisions"),
        (lambda: OptimizerSpec("SGD"), "kind is 'SGD': choose 'sgd', 'adam'"),  # type: ignore[arg-type]
        (lambda: OptimizerSpec(lr=0.0), "lr is 0.0: give a positive number"),
    ],
)
def test_settings_by_which_nothing_can_be_trained_are_refused(
    build: Callable[[], object], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        build()


def test_no_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No task to train on"):
        rl_lr.train(tmp_path, [], TINY)
