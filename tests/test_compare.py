"""A comparison in small: the same code as the large one, on two quick networks."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from rl_lr.compare import compare, run_compare
from rl_lr.compare.arms import FACTORS, GRID, Arm, arms, mean_actions, references
from rl_lr.compare.figures import Cell, Reference, cell, summary
from rl_lr.compare.pilots import Blind, Replay, Rule, untrained
from rl_lr.compare.runs import Track, fly
from rl_lr.compare.store import Store
from rl_lr.compare.workloads import CENTRES, Workload, held_out, held_out_tasks
from rl_lr.config import ControlConfig
from rl_lr.engine import Engine
from rl_lr.policy import Policy
from rl_lr.signals import NUM_SIGNALS, SIGNALS

TASKS = {task.name: task for task in held_out_tasks()}
SMALL = [Workload(TASKS[name], 80, seeds=2) for name in ("linear model", "matrix factorisation")]


def a_track(final: float = 0.5, seed: int = 0, factor: float = 1.0) -> Track:
    return Track(factor, seed, 2.0, final, 2 * final, (10, 20), (1.0, final), (0.1, 0.01))


# --- the suite -------------------------------------------------------------------------------


def test_the_held_out_suite_is_wide() -> None:
    workloads = held_out()
    assert len(TASKS) >= 12
    assert {task.optimizer.kind for task in TASKS.values()} == set(CENTRES)
    assert {load.steps for load in workloads} == {500, 2000, 10_000}
    assert sum(load.steps >= 10_000 for load in workloads) >= 3
    assert len({load.name for load in workloads}) == len(workloads)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_held_out_network_is_stacked_learns_and_has_rows_kept_apart(name: str) -> None:
    task = TASKS[name]
    engine = Engine(task, range(2))
    assert engine._stacks
    before, apart = engine.evaluate(), engine.evaluate(task.held_out)
    for _ in range(60):
        engine.step(torch.full((2,), 0.3 * task.optimizer.lr))
    assert (engine.evaluate() < before).all()
    assert apart.isfinite().all()
    assert task.optimizer.lr == CENTRES[task.optimizer.kind]


# --- runs and pilots -------------------------------------------------------------------------


def test_runs_are_kept_with_their_curves() -> None:
    tracks = fly(SMALL[0], (0.1, 10.0), Policy.keep(), "linear")
    assert [(one.factor, one.seed) for one in tracks] == [(0.1, 0), (0.1, 1), (10.0, 0), (10.0, 1)]
    for one in tracks:
        assert one.steps[-1] == 80
        assert one.losses[-1] == one.final
        assert len(one.steps) == len(one.losses) == len(one.rates)
        assert max(one.rates) == pytest.approx(one.factor * CENTRES["sgd"], rel=0.1)
    assert tracks[0].initial == tracks[2].initial  # the same weights
    assert tracks[0].initial != tracks[1].initial


def test_a_run_does_not_depend_on_what_flies_beside_it() -> None:
    policy = Policy.load("default")
    alone = fly(SMALL[0], (10.0,), policy, control=policy.control)
    among = fly(SMALL[0], (0.01, 10.0), policy, control=policy.control)[2:]
    for ours, theirs in zip(alone, among, strict=True):
        assert ours.final == pytest.approx(theirs.final, rel=1e-3)


def test_the_blind_policy_sees_each_runs_signals_in_another_place() -> None:
    policy, signals = Policy.load("default"), torch.randn(50, NUM_SIGNALS)
    blind, seeing = Blind(policy).act(signals), policy.act(signals)
    assert not torch.equal(blind, seeing)
    torch.testing.assert_close(blind.sort().values, seeing.sort().values)


def test_replayed_actions_are_those_of_the_mean_run() -> None:
    policy = Policy.load("default")
    actions = mean_actions(policy, groups=1)
    assert len(actions) == policy.control.decision_count
    replay = Replay(actions)
    assert [replay.act(torch.zeros(2, NUM_SIGNALS)).tolist() for _ in range(2)] == [
        pytest.approx([actions[0]] * 2),
        pytest.approx([actions[1]] * 2),
    ]


def test_the_rule_follows_the_sign_of_the_hypergradient() -> None:
    signals = torch.zeros(3, NUM_SIGNALS)
    signals[:, SIGNALS.index("hypergradient")] = torch.tensor([0.7, -0.1, 0.0])
    assert Rule().act(signals).tolist() == [0.5, -0.5, 0.0]


def test_an_untrained_policy_hardly_acts() -> None:
    policy = untrained(Policy.load("default"))
    assert [w.shape for w, _ in policy.layers] == [w.shape for w, _ in Policy.load("default").layers]
    assert policy.act(torch.randn(100, NUM_SIGNALS)).abs().max() < 0.1


# --- figures ---------------------------------------------------------------------------------


def test_the_reference_is_the_best_run_of_its_seed_and_of_each_loss_by_itself() -> None:
    tracks = [replace(a_track(0.5), held_out=0.9), replace(a_track(0.4), held_out=1.1), a_track(math.nan)]
    assert Reference.of(tracks) == Reference(final=0.4, held_out=0.9)


def test_a_cell_by_hand() -> None:
    one = cell("w", "a", a_track(0.5), Reference(final=0.25, held_out=1.0), horizon=20)
    assert one.regret == pytest.approx(math.log(0.25 + 0.003) - math.log(0.125 + 0.003))
    assert one.normalised == pytest.approx(0.25 / 1.75)
    assert one.held_out == pytest.approx(0.0)
    assert one.reached == math.inf
    assert not one.lost
    better = cell("w", "a", a_track(0.2), Reference(final=1.0, held_out=1.0), horizon=20)
    assert better.regret < 0 > better.normalised
    assert better.reached == 0.5


@pytest.mark.parametrize("final", [math.nan, math.inf, 3.0])
def test_a_run_that_diverged_is_lost(final: float) -> None:
    one = cell("w", "a", a_track(final), Reference(0.25, 1.0), horizon=20)
    assert one.lost
    assert one.regret > 1.0


def test_a_summary_by_hand() -> None:
    cells = [
        Cell("w", "a", 1.0, seed, regret, regret / 10, 0.0, reached, lost=False)
        for seed, (regret, reached) in enumerate([(-0.1, 0.5), (0.0, 0.9), (0.0, 1.0), (0.5, math.inf)])
    ]
    figures = summary("a", cells)
    assert (figures.median, figures.middle) == (0.0, 0.0)
    assert figures.low <= 0.0 <= figures.high
    assert (figures.at_reference, figures.within, figures.worst) == (0.75, 0.75, 0.05)
    assert (figures.reached, figures.lost) == (0.95, 0)


# --- the whole -------------------------------------------------------------------------------


def test_a_comparison_is_made_once_written_down_and_taken_up_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summaries = run_compare(tmp_path, "default", jobs=1, workloads=SMALL)
    first = (tmp_path / "results.json").read_text()
    results = json.loads(first)
    policy = Policy.load("default")
    assert len(results["cells"]) == len(SMALL) * len(arms(policy)) * len(FACTORS) * 2
    assert "rl-lr: normalised regret" in capsys.readouterr().out
    by_name = {one.arm: one for one in summaries}
    assert by_name["rl-lr"].middle < by_name["untrained policy"].middle
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    next(iter(files)).unlink()  # as if stopped before the last one
    run_compare(tmp_path, "default", jobs=1, workloads=SMALL)
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert sum(files[path] != again[path] for path in files) == 1
    assert (tmp_path / "results.json").read_text() == first


def test_the_reference_is_never_worse_than_the_same_schedule_at_a_rate_of_its_grid(tmp_path: Path) -> None:
    cells = compare(Policy.load("default"), SMALL[:1], tmp_path, 1, Console(quiet=True))
    assert all(any(math.isclose(factor, rate) for rate in GRID) for factor in FACTORS)
    for one in cells:
        if one.arm in ("cosine", "linear", "wsd"):
            assert one.normalised >= -1e-3


def test_other_constants_another_network_or_other_rates_are_other_runs(tmp_path: Path) -> None:
    store, arm = Store(tmp_path), references(ControlConfig())[0]
    store.make(SMALL[0], arm)
    assert store.has(SMALL[0], arm)
    others: list[tuple[Workload, Arm]] = [
        (SMALL[1], arm),
        (replace(SMALL[0], steps=81), arm),
        (SMALL[0], replace(arm, control=ControlConfig(bound=3.0))),
        (SMALL[0], replace(arm, factors=(1.0,))),
        (SMALL[0], replace(arm, identity="another policy")),
    ]
    assert not any(store.has(*other) for other in others)
