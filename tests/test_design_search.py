"""Judging, searching, and what agents learn."""

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from design import SMALL, small_judge

from rl_lr.design.agent import Agent, RandomSearch
from rl_lr.design.architecture import Architecture, LayerSpace
from rl_lr.design.cells import CellSpace, Lstm
from rl_lr.design.children import Child, Judge, Training
from rl_lr.design.problems import Classifier, Digits, Part, Source
from rl_lr.design.q_learning import QConfig, QLearning
from rl_lr.design.reinforce import Reinforce
from rl_lr.design.search import Found, search
from rl_lr.design.space import Taken, uniformly, walk

PARTS: tuple[Part, ...] = ("selection", "test")
AGENTS: list[Callable[..., Agent]] = [RandomSearch, QLearning, Reinforce]

# --- problems and children -------------------------------------------------------------------


def test_a_digit_lies_somewhere_in_its_field_and_no_row_has_two_uses() -> None:
    problem = Digits(LayerSpace((1, 12)), noise=0.0, rows=900, copies=3)
    one, other = (problem.task(Architecture(()), part) for part in PARTS)
    assert one.data()[0].shape == (900, 1, 12, 12)
    assert one.held_out[0].shape == (3 * 299, 1, 12, 12)
    assert other.held_out[0].shape == (3 * 598, 1, 12, 12)
    inks = [
        sorted({round(float(x.sum()), 3) for x in t})
        for t in (one.data()[0], one.held_out[0], other.held_out[0])
    ]
    rows = [{bytes(x[x > 0].numpy()) for x in t} for t in (one.data()[0], one.held_out[0], other.held_out[0])]
    assert len(inks[1]) <= 299
    assert not rows[0] & rows[1] | rows[0] & rows[2] | rows[1] & rows[2]


def test_a_classifier_is_trained_on_the_criterion_and_judged_by_wrong_answers() -> None:
    task = Digits(SMALL).task(Architecture(()), "test")
    assert isinstance(task, Classifier)
    model, (x, y) = task.model(), task.held_out
    trained = task.loss(model, x, y)
    assert trained.item() == pytest.approx(math.log(10), abs=0.2)
    wrong = task.loss(model.eval(), x, y)
    assert float(wrong) == pytest.approx(float((model(x).argmax(1) != y).double().mean()))


def test_a_cell_saves_nats_of_a_blind_guess() -> None:
    problem = Source(CellSpace(4), width=4, length=6)
    assert problem.reward(math.log(97)) == 0.0
    assert problem.reward(0.5 * math.log(97)) == pytest.approx(0.5)
    assert problem.reward(99.0) == 0.0
    cell = problem.space.design(walk(problem.space, uniformly(np.random.default_rng(0))))
    assert problem.parameters(cell) == problem.parameters(Lstm()) == 97 * 16 + 4 * 16 + 5 * 97
    assert problem.parse(str(cell)) == cell
    assert problem.parse("lstm") == Lstm()


@pytest.mark.parametrize("settings", [{"rows": 0}, {"rows": 1797}, {"copies": 0}])
def test_digits_without_rows_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="1 to 1500 of the 1797 digits"):
        Digits(**settings)  # type: ignore[arg-type]


def test_a_child_depends_on_its_design_and_not_on_its_neighbours() -> None:
    first, second = Architecture.parse("conv(2,3)"), Architecture.parse("dense(4)")
    one, other = small_judge(), small_judge()
    alone = one(second)
    other(first)
    assert other(second) == alone
    assert one.trained == 1
    assert one(second) is alone
    assert one.trained == 1


def test_a_child_that_was_lost_is_worth_nothing_and_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "children.jsonl"
    small_judge(path)
    with path.open("a") as file:
        file.write(json.dumps({"design": "linear", "losses": [None]}) + "\n")
    child = small_judge(path)(Architecture(()))
    assert math.isnan(child.losses[0])
    assert child.reward == 0.0


def test_results_are_kept_and_a_line_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "children.jsonl"
    made = [small_judge(path)(Architecture.parse(text)) for text in ("linear", "dense(4)")]
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    again = small_judge(path)
    assert [again(Architecture.parse(text)) for text in ("linear", "dense(4)")] == made
    assert again.trained == 1
    assert path.read_bytes() == whole


def test_results_of_other_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "children.jsonl"
    small_judge(path, steps=4)
    with pytest.raises(
        ValueError, match=r"children.jsonl keeps results of other settings \(steps was 4, now 5\)"
    ):
        small_judge(path, steps=5)


@pytest.mark.parametrize("content", ["nonsense\n", "[]\n", '{"settings": {}}\n{"design": "linear"}\n', "7\n"])
def test_a_file_that_keeps_no_results_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "children.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match="keeps no results of designs"):
        small_judge(path)


@pytest.mark.parametrize("settings", [{"steps": 0}, {"seeds": ()}])
def test_a_training_of_nothing_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one step and on one seed"):
        Training(**settings)  # type: ignore[arg-type]


# --- agents ----------------------------------------------------------------------------------


def worth(design: str) -> float:
    """A stand-in for training: convolution pays, with pooling after it more, and dense layers do not."""
    layers = [one.partition("(")[0] for one in design.split()]
    pairs = sum(pair == ("conv", "pool") for pair in pairwise(layers))
    return 0.2 + 0.1 * layers.count("conv") + 0.2 * pairs - 0.05 * layers.count("dense")


def play(agent: Agent, space: LayerSpace, batches: int) -> list[float]:
    """Rewards of what an agent asked for."""
    rewards: list[float] = []
    for batch in range(batches):
        taken = agent.ask(5, batch / batches)
        worths = [worth(str(space.design(one))) for one in taken]
        agent.tell(taken, worths)
        rewards += worths
    return rewards


@pytest.mark.parametrize("make", AGENTS)
def test_an_agent_asks_for_legal_designs_and_the_same_when_told_the_same(make: Callable[..., Agent]) -> None:
    space = LayerSpace()
    ours, theirs = (make(space, 3) for _ in range(2))
    assert play(ours, space, 6) == play(theirs, space, 6)
    asked: list[Taken] = ours.ask(5, 0.9)
    assert asked == theirs.ask(5, 0.9)
    for one in asked:
        assert all(action in space.legal(one[:index]) for index, action in enumerate(one))
        assert space.legal(one) == []


@pytest.mark.parametrize("make", [QLearning, Reinforce])
def test_an_agent_learns_what_pays(make: Callable[..., Agent]) -> None:
    space = LayerSpace()
    chance = np.mean(play(RandomSearch(space, 0), space, 60))
    learnt = play(make(space, 0), space, 60)
    assert np.mean(learnt[-50:]) > chance + 0.15


def test_q_learning_explores_as_its_schedule_says() -> None:
    agent = QLearning(LayerSpace(), 0, QConfig(exploring=0.5))
    levels = [agent.epsilon(done / 100) for done in range(101)]
    assert levels[:50] == [1.0] * 50
    assert sorted(set(levels), reverse=True) == pytest.approx(
        [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    )
    assert levels[-1] == 0.1


def test_one_pass_backwards_carries_a_reward_to_the_first_action() -> None:
    space = LayerSpace(inputs=(1, 8), channels=(2,), sizes=(3,), pools=(2,), widths=(4,), depth=3)
    agent = QLearning(space, 0, QConfig(step=1.0, replayed=0, initial=0.5))
    taken = space.actions(Architecture.parse("conv(2,3) pool(2)"))
    agent.tell([taken], [0.9])
    values = [agent.values[(space.state(taken[:index]), taken[index])] for index in range(3)]
    assert values == pytest.approx([0.9, 0.9, 0.9])
    agent.tell(
        [taken[:-2] + taken[-1:]], [0.2]
    )  # worse without pooling: the best that may follow still counts
    assert agent.values[(space.state(taken[:1]), taken[-1])] == pytest.approx(0.2)
    assert agent.values[(space.state(()), taken[0])] == pytest.approx(0.9)


def test_reinforce_begins_as_chance_does() -> None:
    space = CellSpace(2)
    agent = Reinforce(space, 0)
    first = [one[0] for one in agent.ask(400, 0.0)]
    assert np.mean(first) == pytest.approx(0.5, abs=0.1)


# --- searches --------------------------------------------------------------------------------


@pytest.mark.parametrize("children", [0, -3])
def test_a_search_without_children_is_refused(children: int) -> None:
    with pytest.raises(ValueError, match=f"at least one child, got {children}: give --children 1 or more"):
        search(small_judge(), RandomSearch(SMALL, 0), children)


@pytest.mark.parametrize("make", AGENTS)
def test_a_search_made_again_over_its_file_ends_the_same_and_trains_nothing(
    tmp_path: Path, make: Callable[..., Agent]
) -> None:
    path = tmp_path / "children.jsonl"
    first = search(small_judge(path), make(SMALL, 1), 6)
    again = small_judge(path)
    assert search(again, make(SMALL, 1), 6) == first
    assert again.trained == 0
    assert len({child.design for child in first.children}) == 6


def test_a_search_stops_once_its_agent_asks_for_nothing_new() -> None:
    tiny = LayerSpace(inputs=(1, 8), channels=(2,), sizes=(8,), pools=(8,), widths=(4,), depth=1)
    judge = Judge(Digits(tiny, rows=1500, copies=1), Training(steps=1, seeds=(0,)))
    found = search(judge, RandomSearch(tiny, 0), 50)
    assert len(found.children) == judge.trained == 4  # linear, or one of three layers


def test_best_so_far_never_falls() -> None:
    found = Found(tuple(Child(str(k), (0.0,), reward) for k, reward in enumerate((0.2, 0.5, 0.1, 0.6))))
    assert found.best_so_far() == [0.2, 0.5, 0.5, 0.6]
    assert [child.reward for child in found.best(2)] == [0.6, 0.5]


def test_global_generators_are_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    agent = Reinforce(SMALL, 0)
    agent.tell(agent.ask(2, 0.0), [0.1, 0.2])
    torch.testing.assert_close(torch.rand(2), expected)
