"""A comparison in small: the same code as the large one, on two quick networks."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_lr.compare import Comparison, make, run_compare
from rl_lr.compare.arms import GRID, REFERENCE_RUNS, beside, contenders, mean_actions
from rl_lr.compare.comparison import CARRIED_OVER
from rl_lr.compare.controlled import FACTORS, Controlled
from rl_lr.compare.figures import Cell, Reference, cell, duel, summary
from rl_lr.compare.pilots import Blind, Replay, Rule, untrained
from rl_lr.compare.plots import OURS, panels_of
from rl_lr.compare.runs import Track
from rl_lr.compare.store import Store
from rl_lr.compare.suites import suite
from rl_lr.compare.workloads import Workload, held_out, held_out_tasks
from rl_lr.engine import Engine
from rl_lr.optimizers import CENTRES
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


def test_no_suite_shares_a_task_with_another_and_each_is_always_the_same() -> None:
    chosen, trained = suite("validation"), suite("train-families")
    families = [{load.task.name.rsplit(" ", 1)[0] for load in loads} for loads in (chosen, trained)]
    assert families[0].isdisjoint(families[1])
    names = [load.name for load in (*chosen, *trained, *held_out())]
    assert len(set(names)) == len(names)
    for one, again in zip(chosen, suite("validation"), strict=True):
        assert one.name == again.name
        task = one.stepped
        assert torch.equal(task.data()[0], again.stepped.data()[0])
        assert len(task.held_out[0]) == pytest.approx(len(task.data()[0]) / 4, rel=0.02)


def test_no_network_begins_as_the_answer() -> None:
    """Regression: ratings were drawn from the same numbers as the network of seed 0."""
    for task in TASKS.values():
        first = Engine(task, range(3)).evaluate()
        assert float(first.min()) > 0.3 * float(first.max()), task.name


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_held_out_network_is_stacked_learns_and_has_rows_kept_apart(name: str) -> None:
    task = TASKS[name]
    engine = Engine(task, range(2))
    assert engine._stacks
    before, apart = engine.evaluate(), engine.evaluate(task.held_out)
    for _ in range(60):
        engine.step(torch.full((2,), 0.1 * task.optimizer.lr))
    assert (engine.evaluate() < before).all()
    assert apart.isfinite().all()
    assert task.optimizer.lr == CENTRES[task.optimizer.kind]


# --- runs and pilots -------------------------------------------------------------------------


def test_runs_are_kept_with_their_curves() -> None:
    arm = Controlled("linear", Policy.keep, schedule="linear", factors=(0.1, 10.0))
    tracks = arm.run(SMALL[0])
    assert [(one.factor, one.seed) for one in tracks] == [(0.1, 0), (0.1, 1), (10.0, 0), (10.0, 1)]
    for one in tracks:
        assert one.steps[-1] == 80
        assert one.losses[-1] == pytest.approx(one.final, rel=1e-3)
        assert len(one.steps) == len(one.losses) == len(one.rates)
        assert max(one.rates) == pytest.approx(one.factor * CENTRES["sgd"], rel=0.2)
    assert tracks[0].initial == tracks[2].initial  # the same weights
    assert tracks[0].initial != tracks[1].initial


def test_a_run_does_not_depend_on_what_flies_beside_it() -> None:
    policy = Policy.load("default")
    arm = contenders(policy)[0]
    alone = replace(arm, factors=(10.0,)).run(SMALL[0])
    among = replace(arm, factors=(0.01, 10.0)).run(SMALL[0])[2:]
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
    assert Reference.of(tracks) == Reference(tracks[1], held_out=0.9)


def test_a_cell_by_hand() -> None:
    one = cell("w", "a", a_track(0.5), Reference(a_track(0.25), held_out=1.0), horizon=20)
    assert one.regret == pytest.approx(math.log(0.25 + 0.003) - math.log(0.125 + 0.003))
    assert one.normalised == pytest.approx(0.25 / 1.75)
    assert one.held_out == pytest.approx(0.0)
    assert one.reached == math.inf
    assert not one.lost
    better = cell("w", "a", a_track(0.2), Reference(a_track(1.0), held_out=1.0), horizon=20)
    assert better.regret < 0 > better.normalised
    assert better.reached == 0.5


@pytest.mark.parametrize("final", [math.nan, math.inf, 3.0])
def test_a_run_that_diverged_is_lost(final: float) -> None:
    one = cell("w", "a", a_track(final), Reference(a_track(0.25), 1.0), horizon=20)
    assert one.lost
    assert one.regret > 1.0


def some_cells(arm: str, regrets: list[float], factor: float = 1.0) -> list[Cell]:
    reached = [0.5, 0.9, 1.0, math.inf]
    return [
        Cell(f"w{k}", arm, factor, k, regret, regret / 10, 0.0, time, lost=False)
        for k, (regret, time) in enumerate(zip(regrets, reached, strict=True))
    ]


def test_a_summary_by_hand() -> None:
    figures = summary("a", some_cells("a", [-0.1, 0.0, 0.0, 0.5]))
    assert (figures.median, figures.middle) == (0.0, 0.0)
    assert figures.low <= 0.0 <= figures.high
    assert (figures.at_reference, figures.within, figures.worst) == (0.75, 0.75, 0.05)
    assert (figures.reached, figures.lost, figures.cells) == (0.95, 0, 4)


def test_a_duel_by_hand() -> None:
    ours, theirs = some_cells("a", [-0.1, 0.0, 0.0, 0.5]), some_cells("b", [0.1, 0.2, -0.2, 0.7])
    against = duel(ours, theirs)
    assert (against.arm, against.lower) == ("b", 0.75)
    assert against.advantage == pytest.approx(0.2)
    assert against.low <= 0.2 <= against.high


def test_an_arm_without_base_rates_meets_every_run_of_ours() -> None:
    ours = some_cells("a", [0.0] * 4, 0.1) + some_cells("a", [2.0] * 4, 10.0)
    assert duel(ours, some_cells("b", [1.0] * 4, 1.0)).lower == 0.5


def test_the_interval_draws_workloads_not_cells() -> None:
    many = [replace(one, seed=seed) for one in some_cells("a", [-1.0, 0.0, 0.0, 1.0]) for seed in range(50)]
    figures = summary("a", many)
    assert figures.high - figures.low > 0.5  # four workloads tell little, however often each was run


# --- the whole -------------------------------------------------------------------------------


def test_a_comparison_is_made_once_written_down_and_taken_up_again(tmp_path: Path) -> None:
    policy, console = Policy.load("default"), Console(record=True, width=200)
    arms = len(contenders(policy)) + 3

    def run() -> Comparison:
        return run_compare(tmp_path, policy, "heldout", rivals=False, workloads=SMALL, console=console)

    by_name = {one.arm: one for one in run().summaries}
    first = (tmp_path / "results.json").read_text()
    results = json.loads(first)
    assert len(results["cells"]) == len(SMALL) * arms * len(FACTORS) * 2
    assert "rl-lr: normalised regret" in console.export_text()
    assert by_name["rl-lr"].middle < by_name["untrained policy"].middle
    lines = (tmp_path / "runs.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == len(SMALL) * arms
    (tmp_path / "runs.jsonl").write_text("".join(lines[:-1]) + lines[-1][:100])  # as if stopped in writing
    run()
    again = (tmp_path / "runs.jsonl").read_text().splitlines(keepends=True)
    assert again[:-1] == lines[:-1]
    assert json.loads(again[-1])["tracks"] == json.loads(lines[-1])["tracks"]
    assert (tmp_path / "results.json").read_text() == first

    page = (tmp_path / "results.md").read_text()
    assert policy.sha256 in page
    for picture in ("profile.png", "base-rate.png", "rates.png"):
        assert f"({picture})" in page
        assert (tmp_path / picture).stat().st_size > 10_000
    board = EventAccumulator(str(tmp_path / "tensorboard" / "rl-lr x0.01"))
    board.Reload()
    assert f"loss/{SMALL[0].name}" in board.Tags()["scalars"]


def test_figures_draw_ours_beside_rivals_and_again_beside_other_policies() -> None:
    panels = panels_of(["rl-lr", "rl-lr, each tensor", "blind policy", "cosine"])
    assert [list(lines) for lines in panels.values()] == [
        ["rl-lr", "blind policy", "cosine"],
        ["rl-lr", "rl-lr, each tensor"],
    ]
    assert all(lines["rl-lr"]["color"] == OURS for lines in panels.values())
    others = [style for lines in panels.values() for name, style in lines.items() if name != "rl-lr"]
    assert OURS not in [style["color"] for style in others]
    assert len(panels_of(["rl-lr", "cosine"])) == 1  # no panel for nothing


def test_a_network_that_draws_noise_draws_the_same_whatever_ran_before(tmp_path: Path) -> None:
    load, arm = Workload(TASKS["VAE"], 60, seeds=1), Controlled("constant", Policy.keep, "", "constant")
    ends = []
    for name in ("first", "second"):
        (made,) = make([load], [arm], Store(tmp_path / name), 1, Console(quiet=True))
        ends.append([track.final for track in made["constant"].tracks])
        torch.rand(3)
    assert ends[0] == ends[1]


@pytest.fixture(scope="module")
def one_workload(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, str]:
    """The default with two policies beside it, and the page."""
    out, others = tmp_path_factory.mktemp("compare"), [Policy.load("dqn"), Policy.keep()]
    found = run_compare(
        out,
        Policy.load("default"),
        "heldout",
        rivals=False,
        workloads=SMALL[:1],
        console=Console(quiet=True),
        others=others,
    )
    return found, (out / "results.md").read_text()


def test_the_reference_is_never_worse_than_the_same_schedule_at_a_rate_of_its_grid(
    one_workload: tuple[Comparison, str],
) -> None:
    cells = one_workload[0].cells
    assert set(FACTORS) < set(GRID)
    assert REFERENCE_RUNS == 27
    for name in ("cosine", "linear", "wsd"):
        assert min(one.normalised for one in cells[name]) >= 0.0
        assert {one.factor for one in cells[name]} == set(FACTORS)


def test_the_setting_tuned_for_one_seed_is_told_of_from_the_others(
    one_workload: tuple[Comparison, str],
) -> None:
    found, page = one_workload
    (seeds,), (best,) = {one.seeds for one in found.workloads}, found.references
    carried = found.carried_over
    assert len(carried) == seeds * (seeds - 1) > 0
    assert min(one.regret for one in carried) >= 0.0  # it is in the grid that the reference is the best of
    assert {one.factor for one in carried} <= {one.track.factor for one in best.values()}
    assert f"| {CARRIED_OVER} |" in page


def test_policies_beside_it_are_compared_with_it_and_with_each_other(
    one_workload: tuple[Comparison, str],
) -> None:
    found, page = one_workload
    assert {"rl-lr, dqn", "rl-lr, keep"} <= {one.arm for one in found.duels}
    ((name, [pair]),) = found.between.items()
    assert (name, pair.arm) == ("rl-lr, dqn", "rl-lr, keep")
    pairs = list(zip(found.cells[name], found.cells[pair.arm], strict=True))
    assert pair.lower == sum(one.regret < other.regret for one, other in pairs) / len(pairs)
    assert "## rl-lr, dqn against others beside it" in page


def test_two_policies_of_one_name_could_not_be_told_apart(make_policy: Callable[[int], Policy]) -> None:
    policy = make_policy(1)
    with pytest.raises(ValueError, match="Two policies have the line 'rl-lr, default'"):
        beside(policy, [replace(make_policy(2), name="default")])
    with pytest.raises(ValueError, match="have the line 'rl-lr, constant'"):
        beside(policy, [replace(make_policy(2), name="runs/constant")])
    assert len(beside(policy, [Policy.load("default")])) == 1
    assert [one.name for one in beside(policy, [policy, make_policy(2)])] == [
        "rl-lr, default",
        "rl-lr, random-2",
    ]
