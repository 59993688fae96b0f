"""What TensorBoard shows of a training."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from event_files import layout_of, logs
from small_training import TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rl_lr
from rl_lr.agents.actions import actions_by_base_rate, draw_actions
from rl_lr.charts import writer_after
from rl_lr.episodes import Episode
from rl_lr.tasks.families import quadratic


def episode(log_base_lr: list[float]) -> Episode:
    """Every action of a run is its log base rate."""
    rates = np.array(log_base_lr)
    actions = np.tile(rates.astype(np.float32), (TINY.control.decision_count, 1))
    return Episode(actions[..., None], actions, actions, rates, np.ones(len(rates)), np.ones(len(rates)), 60)


@pytest.mark.parametrize(("agent", "validate_every"), [("ppo", 3), ("dqn", 0)])
def test_every_chart_of_the_layout_has_its_lines_and_a_resumed_training_writes_it_no_second_time(
    tmp_path: Path, agent: Literal["ppo", "dqn"], validate_every: int
) -> None:
    config = replace(TINY, agent=agent, validate_every=validate_every, validation_groups=2)
    rl_lr.train(tmp_path, [quadratic], config, should_stop=lambda: True)
    rl_lr.train(tmp_path, resume=True, tasks=[quadratic])
    events = logs(tmp_path / "tensorboard")
    assert len(events.Tensors("custom_scalars__config__")) == 1
    layout = layout_of(events)
    assert list(layout) == ["training: what comes of it", "training: how it learns"]
    steps = {tag: [one.step for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    for charts in layout.values():
        for pattern in {tag for tags in charts.values() for tag in tags}:
            (tag,) = (tag for tag in steps if re.fullmatch(pattern, tag))
            assert steps[tag] == ([1, 3] if tag.startswith("validation/") else [1, 2, 3])
    assert [one.step for one in events.Images("rollout/actions")] == [1, 2, 3]


def test_exploration_and_speed_are_what_they_were(tmp_path: Path) -> None:
    rl_lr.train(tmp_path, [quadratic], replace(TINY, agent="dqn"))
    events = logs(tmp_path / "tensorboard")
    explored = [one.value for one in events.Scalars("rollout/epsilon")]
    assert explored == pytest.approx([1.0, 1.0 - 0.95 * 2 / 3, 0.05])
    steps, decisions = (
        np.array([one.value for one in events.Scalars(f"rollout/{name}_per_second")])
        for name in ("engine_steps", "decisions")
    )
    # Runs of 60 to 90 steps make 56 decisions, and decisions are counted over the update's time as well.
    assert (steps > decisions).all()


def test_actions_are_told_apart_by_the_base_rates_of_each_task() -> None:
    low, middle, high = actions_by_base_rate([episode([0.3, 0.1, 0.2]), episode([-0.1, -5.0, -0.3])])
    assert low[0].tolist() == pytest.approx([0.1, -1.0])  # clipped as the controller clips
    assert middle[0].tolist() == pytest.approx([0.2, -0.3])
    assert high[0].tolist() == pytest.approx([0.3, -0.1])


def test_the_picture_of_actions_shows_each_third_that_has_runs() -> None:
    axes = draw_actions([episode([0.1, 0.2])], TINY.control).axes[0]
    means = {line.get_label(): np.asarray(line.get_ydata()) for line in axes.lines}
    assert means["lowest"] == pytest.approx(np.full(56, 0.1))
    assert means["highest"] == pytest.approx(np.full(56, 0.2))
    assert "middle" not in means


def test_curves_that_go_on_within_the_second_are_read_in_their_order(tmp_path: Path) -> None:
    for done in range(3):  # the writers' numbers, which follow the second, need not rise: "10" is before "9"
        with writer_after(tmp_path, done) as writer:
            writer.add_scalar("loss", float(done), done + 1)
            writer.add_scalar("loss", -1.0, done + 2)  # hidden by the next
    seconds = [int(file.name.split(".")[3]) for file in tmp_path.iterdir()]
    assert len(set(seconds)) == 3
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(one.step, one.value) for one in events] == [(1, 0.0), (2, 1.0), (3, 2.0), (4, -1.0)]
