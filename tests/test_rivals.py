"""Rivals: real schedulers and packages, on the engine's gradients."""

import math

import pytest
import torch
from pytorch_lightning.tuner.lr_finder import _LRFinder

from rl_lr.compare.controlled import FACTORS
from rl_lr.compare.finder import found_rate
from rl_lr.compare.rivals import Hypergradient, Plateau, rivals
from rl_lr.compare.runs import Start
from rl_lr.compare.stepped import Averaging, Stepped
from rl_lr.compare.workloads import Workload, held_out_tasks
from rl_lr.engine import Engine, build_objective
from rl_lr.optimizers import CENTRES

TASKS = {task.name: task for task in held_out_tasks()}
LINEAR = Workload(TASKS["linear model"], 100, seeds=2)
NORMED = Workload(TASKS["CNN with batch-norm"], 30, seeds=1)
RIVALS = {arm.name: arm for arm in rivals()}


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_trains_from_some_rate_and_has_its_curves(name: str) -> None:
    arm = RIVALS[name]
    tracks = arm.run(LINEAR)
    assert len(tracks) == 2 * len(arm.factors)
    assert all(one.steps[-1] == 100 and len(one.losses) == len(one.rates) == 14 for one in tracks)
    if name != "LR finder + one-cycle":  # what it suggests here is far too low
        assert min(one.final for one in tracks) < 0.5 * tracks[0].initial


def test_one_cycle_is_torchs_optimizer_under_torchs_scheduler() -> None:
    task, peak = LINEAR.stepped, 10.0 * LINEAR.stepped.optimizer.lr
    track = next(one for one in RIVALS["one-cycle"].run(LINEAR) if (one.factor, one.seed) == (10.0, 1))
    network, batches = build_objective(task, seed=1), Engine(task, [1])
    optimizer = task.optimizer.build(network.parameters(), peak)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=101)
    for _ in range(100):
        optimizer.zero_grad()
        network(*(rows[0] for rows in batches.draw())).backward()
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        final = network(*batches._fixed)
    assert track.final == pytest.approx(final.item(), rel=1e-4)


def test_hypergradient_descent_finds_the_rate_of_a_bowl() -> None:
    """Descent on ½w²: below the best rate, 1, gradients agree with updates; above, they do not."""
    for lr in (0.01, 1.9):
        weights = torch.tensor([1.0])
        stepper = Hypergradient(torch.optim.SGD([weights], lr), [weights])
        for _ in range(40):
            weights.grad = weights.clone()
            stepper.step(0.0)
        assert abs(math.log(stepper.rate)) < abs(math.log(lr))


def test_a_plateau_lowers_the_rate_and_a_falling_loss_does_not() -> None:
    for falls, wanted in ((True, 0.5), (False, 0.05)):
        weights = torch.tensor([1.0])
        stepper = Plateau(torch.optim.SGD([weights], 0.5), steps=200)
        for step in range(40):
            stepper.step(100.0 - step if falls else 1.0)
        assert stepper.rate == pytest.approx(wanted)


def test_schedule_free_is_measured_at_its_average_and_trains_on() -> None:
    tracks = RIVALS["schedule-free"].run(NORMED)
    assert min(one.final for one in tracks) < tracks[0].initial
    weights = torch.ones(3)
    stepper = RIVALS["schedule-free"].recipe([weights], LINEAR, Start(1.0, 0))
    assert isinstance(stepper, Averaging)
    for _ in range(5):
        weights.grad = torch.ones(3)
        stepper.step(0.0)
    trained = weights.clone()
    stepper.evaluating(True)
    assert not torch.equal(weights, trained)
    stepper.evaluating(False)
    torch.testing.assert_close(weights, trained)


def test_a_rival_with_a_rate_of_its_own_has_a_line_for_its_default_and_one_for_its_best() -> None:
    arm = RIVALS["Prodigy"]
    rows = arm.rows(arm.run(LINEAR))
    usual, best = rows["Prodigy"], rows["Prodigy, best of 3"]
    assert [one.factor for one in usual] == [1.0, 1.0]
    assert all(ours.final <= theirs.final for ours, theirs in zip(best, usual, strict=True))


def test_other_arms_share_the_base_rates() -> None:
    with_base = [arm for arm in RIVALS.values() if not arm.own_rate]
    assert {arm.name for arm in with_base} == {"one-cycle", "reduce on plateau", "hypergradient"}
    assert all(arm.factors == FACTORS and list(arm.rows([])) == [arm.name] for arm in with_base)


def test_the_finder_gives_what_lightning_suggests(monkeypatch: pytest.MonkeyPatch) -> None:
    suggested = []
    real = _LRFinder.suggestion

    def spy(finder: _LRFinder) -> float | None:
        suggested.append(real(finder))
        return suggested[-1]

    monkeypatch.setattr(_LRFinder, "suggestion", spy)
    rate = found_rate(TASKS["CNN"], seed=0)
    assert rate == (suggested[-1] or CENTRES["sgd"])
    assert 1e-8 < rate < 1.0


def test_stepped_runs_do_not_depend_on_their_neighbours() -> None:
    arm = RIVALS["one-cycle"]
    alone = Stepped("one-cycle", arm.recipe, (1.0,)).run(LINEAR)
    among = [one for one in arm.run(LINEAR) if one.factor == 1.0]
    assert [one.final for one in alone] == pytest.approx([one.final for one in among], rel=1e-4)
