"""Learning by unrolled runs: what it exports, that it is the same again, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import rl_lr
from rl_lr.cli import main
from rl_lr.coordinate import CoordinatePolicy
from rl_lr.coordinate.config import UnrollConfig
from rl_lr.coordinate.learner import Learner
from rl_lr.coordinate.network import CoordinateNetwork, NetworkSpec
from rl_lr.coordinate.sizes import affordable
from rl_lr.coordinate.tasks import quadratics
from rl_lr.coordinate.training import train
from rl_lr.coordinate.unroll import Runs
from rl_lr.engine import Engine
from rl_lr.envs import LightningFit
from rl_lr.optimizers import OptimizerSpec
from rl_lr.tasks.tensors import TensorTask, squared_error

TINY = UnrollConfig(
    learning_rates=(1e-2, 3e-3),
    iterations=2,
    groups=2,
    group_size=3,
    steps=8,
    truncation=4,
    network=NetworkSpec(hidden=5),
    validation_runs=4,
)
WORDS = [
    "train",
    "--agent=unroll",
    "--granularity=coordinate",
    "--unroll.iterations=1",
    "--unroll.groups=2",
    "--unroll.group_size=2",
    "--unroll.steps=4",
    "--unroll.truncation=2",
    "--unroll.validation_runs=2",
]


def assert_same(first: CoordinatePolicy, second: CoordinatePolicy) -> None:
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, second.network.state_dict()[name]), name


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["rl-lr", *words])
    main()


# --- what it makes ---------------------------------------------------------------------------


def test_training_exports_the_best_policy_its_card_its_curves_and_checkpoints(tmp_path: Path) -> None:
    reports: list[tuple[int, dict[str, float]]] = []
    policy = train(tmp_path, None, TINY, lambda done, figures: reports.append((done, figures)))
    loaded = CoordinatePolicy.load(tmp_path)
    assert loaded.sha256 == policy.sha256
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["00001", "00002", "00003", "00004"]
    candidates = [CoordinatePolicy.load(tmp_path / "checkpoints" / name) for name in names]
    measured = [one.provenance["validation"]["loss"] for one in candidates]
    assert measured == [figures["loss"] for _, figures in reports]
    assert policy.provenance["validation"]["loss"] == min(measured)
    assert_same(policy, candidates[int(np.argmin(measured))])
    card = (tmp_path / "README.md").read_text()
    assert policy.sha256 in card
    assert "LearnedOptimizer" in card
    assert f"Processor: {policy.provenance['processor']}." in card
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [one.step for one in events.Scalars("validation/loss")] == [1, 2, 3, 4]
    assert json.dumps(policy.provenance)


def test_members_have_step_sizes_and_networks_of_their_own() -> None:
    first, second = (Learner(TINY, member) for member in (0, 1))
    assert not torch.equal(first.network.head.weight, second.network.head.weight)
    rates = [Learner(TINY, member).iterate([quadratics(3)], 2 * member)["learning_rate"] for member in (0, 1)]
    assert rates == list(TINY.learning_rates)


def test_a_little_learning_lowers_the_loss_of_runs_never_seen(tmp_path: Path) -> None:
    config = replace(TINY, learning_rates=(1e-2,), iterations=3, groups=8, steps=20, truncation=10)
    policy = train(tmp_path, [quadratics(3)], config)
    with torch.no_grad():
        engine = Engine(quadratics(3), range(20))
        before = engine.evaluate().mean()
        Runs(engine, policy.network).unroll(20)
    assert engine.evaluate().mean() < 0.7 * before


def test_families_take_turns_and_second_order_learns_too(tmp_path: Path) -> None:
    def bowls(rng: np.random.Generator) -> TensorTask:
        return quadratics(int(rng.integers(2, 5)))

    policy = train(tmp_path, [bowls, quadratics(2)], replace(TINY, second_order=True, objective="loss"))
    assert policy.provenance["tasks"] == ["bowls", "quadratics"]


# --- again, and further ----------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_stopped_training_ends_with_the_same_bits_and_curves(tmp_path: Path, parts: int) -> None:
    """Within a member, between two, and after both began."""
    whole = train(tmp_path / "whole", None, TINY)
    done: list[int] = []
    train(tmp_path / "parts", None, TINY, lambda k, _: done.append(k), lambda: len(done) + 1 >= parts)
    assert len(done) == parts
    resumed = train(tmp_path / "parts", resume=True)
    assert_same(whole, resumed)
    last = [CoordinatePolicy.load(tmp_path / name / "checkpoints" / "00004") for name in ("whole", "parts")]
    assert_same(*last)
    for name in ("whole", "parts"):
        events = EventAccumulator(str(tmp_path / name / "tensorboard")).Reload()
        assert [one.step for one in events.Scalars("train/end")] == [1, 2, 3, 4]


def test_the_command_trains_and_goes_on_without_being_told_what_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    run(monkeypatch, *WORDS, "--task", "rl_lr.coordinate.tasks:quadratics", "--out", str(out))
    policy = CoordinatePolicy.load(out)
    assert policy.provenance["tasks"] == ["rl_lr.coordinate.tasks:quadratics"]
    assert policy.provenance["command"].startswith("rl-lr train --agent=unroll")
    run(monkeypatch, "train", "--resume", str(out))
    assert_same(policy, CoordinatePolicy.load(out))
    assert CoordinatePolicy.load(out).provenance["command"] == policy.provenance["command"]
    assert f"rl-lr board {out}" in capsys.readouterr().out


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["train", "--agent", "unroll", "--out", "{tmp}/x"],
            "--agent unroll with --granularity network does",
        ),
        (
            ["train", "--granularity", "coordinate", "--out", "{tmp}/x"],
            "--agent ppo with --granularity coord",
        ),
        ([*WORDS, "--out", "{tmp}/x", "--from", "default"], "leave --from, --engine"),
        ([*WORDS, "--out", "{tmp}/x", "--engine", "processes"], "leave --from, --engine"),
        ([*WORDS, "--out", "{tmp}/x", "--settings.seed", "1"], "set --unroll instead of --settings"),
        (["train", "--out", "{tmp}/x", "--unroll.seed", "1"], "give --agent unroll, not ppo"),
        ([*WORDS, "--resume", "{tmp}/network"], "leave --granularity out"),
        (["train", "--resume", "{tmp}/x"], "holds no training to go on with"),
        ([*WORDS, "--out", "{tmp}/x", "--task", "nothing"], "no task 'nothing'"),
        ([*WORDS, "--out", "{tmp}/x", "--unroll.truncation=3"], "a truncation that divides the steps"),
    ],
)
def test_bad_words_end_in_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    reason: str,
) -> None:
    if "{tmp}/network" in words:
        from small_training import TINY as AGENTS

        from rl_lr.tasks.families import quadratic

        rl_lr.train(tmp_path / "network", [quadratic], replace(AGENTS, iterations=1))
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, *(word.format(tmp=tmp_path) for word in words))
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert reason in error
    assert "Traceback" not in error
    assert not (tmp_path / "x").exists()


def test_a_training_of_the_other_kind_is_not_taken_up(tmp_path: Path) -> None:
    train(tmp_path, None, replace(TINY, learning_rates=(1e-2,), iterations=1))
    with pytest.raises(ValueError, match="holds a training of --agent unroll --granularity coordinate"):
        rl_lr.train(tmp_path, resume=True)
    with pytest.raises(ValueError, match="started with group_size=3, not 4"):
        train(tmp_path, None, replace(TINY, learning_rates=(1e-2,), iterations=1, group_size=4), resume=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"iterations": 0},
        {"group_size": 1.5},
        {"learning_rates": ()},
        {"learning_rates": (0.0,)},
        {"clip_norm": 0.0},
        {"max_bytes": -1.0},
        {"truncation": 200},
        {"objective": "regret"},
    ],
    ids=str,
)
def test_settings_of_no_training_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"UnrollConfig\.") as caught:
        UnrollConfig(**changes)
    assert str(caught.value).endswith(".")


def test_tasks_that_cannot_be_unrolled_are_refused(tmp_path: Path) -> None:
    fit = LightningFit(lambda: None, lambda: None, {"max_steps": 10})  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="is a fit, a loop of its own that nothing can unroll"):
        train(tmp_path / "x", [lambda rng: fit], TINY)
    with pytest.raises(ValueError, match="No task to train on"):
        train(tmp_path / "x", [], TINY)
    assert not (tmp_path / "x").exists()


# --- memory ----------------------------------------------------------------------------------


def test_an_unroll_that_does_not_fit_is_shortened_and_that_is_said(tmp_path: Path) -> None:
    one = TINY.max_bytes / affordable(quadratics(3), Learner(TINY, 0).network, TINY)
    config = replace(TINY, learning_rates=(1e-2,), max_bytes=2.5 * one)
    with pytest.warns(
        UserWarning, match=r"An unroll of 4 steps does not fit into memory: from now on it is 2\."
    ):
        policy = train(tmp_path / "short", [quadratics(3)], config)
    same = train(tmp_path / "two", [quadratics(3)], replace(config, truncation=2))
    assert_same(policy, same)


def test_a_shortened_training_is_resumed_shortened(tmp_path: Path) -> None:
    one = TINY.max_bytes / affordable(quadratics(3), Learner(TINY, 0).network, TINY)
    config, stop = replace(TINY, learning_rates=(1e-2,), max_bytes=2.5 * one), [1]
    with pytest.warns(UserWarning, match="does not fit into memory"):
        train(tmp_path, [quadratics(3)], config, None, lambda: bool(stop))
    train(tmp_path, [quadratics(3)], None, resume=True)  # warns no more


def test_a_step_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MemoryError, match=r"One step of 3 runs of task 'quadratics', 3 weights each, keeps"):
        train(tmp_path, [quadratics(3)], replace(TINY, max_bytes=10.0))


def test_what_is_kept_is_counted_by_coordinates_runs_and_the_networks_of_second_order() -> None:
    network = CoordinateNetwork(NetworkSpec())
    few, many = (affordable(quadratics(size), network, UnrollConfig()) for size in (10, 100))
    assert few // many in (9, 10)
    wide = TensorTask(
        "wide", OptimizerSpec(), 256, lambda: nn.Linear(9, 1), (torch.ones(256, 9),), squared_error
    )
    first, second = (affordable(wide, network, UnrollConfig(second_order=both)) for both in (False, True))
    assert second < first


# --- what goes wrong on the way --------------------------------------------------------------


def test_runs_that_blow_up_leave_the_network_as_it_was() -> None:
    def cliff(output: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return (1e30 * output.square()).square().sum()

    task = TensorTask("cliff", OptimizerSpec(), 1, lambda: nn.Linear(1, 1), (torch.ones(1, 1),), cliff)
    learner = Learner(TINY, 0)
    before = {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}
    with pytest.warns(UserWarning, match="No gradient of iteration 1 was finite"):
        figures = learner.iterate([task], 0)
    assert figures["skipped"] == 1.0
    assert all(torch.equal(before[name], tensor) for name, tensor in learner.network.state_dict().items())
