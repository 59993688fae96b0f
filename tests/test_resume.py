"""A training that was killed goes on where it was, and ends where it would have ended."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from small_training import TINY, assert_same_weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rl_lr
from rl_lr.config import DrawConfig, TrainConfig
from rl_lr.policy import Policy
from rl_lr.resume import STATE_FILE, load, save
from rl_lr.tasks.families import quadratic

FOUR = replace(TINY, iterations=4, validate_every=2, validation_groups=2)
PAIR = replace(TINY, members=2, iterations=2)
TRAIN = [sys.executable, "-c", "from rl_lr.cli import main; main()", "train"]
WORDS = [
    "--settings.members=1",
    "--settings.iterations=5",
    "--settings.groups=1",
    "--settings.group_size=8",
    "--settings.ppo.minibatch=224",
    "--settings.validate_every=0",
    "--settings.draw.min_steps=60",
    "--settings.draw.max_steps=90",
]


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def stopped_after(folder: Path, iterations: int, config: TrainConfig = FOUR) -> None:
    done: list[int] = []
    rl_lr.train(folder, [quadratic], config, lambda k, _: done.append(k), lambda: len(done) + 1 >= iterations)
    assert load(folder)[0].iterations == iterations


@pytest.mark.parametrize(("agent", "loss"), [("ppo", "train/value_loss"), ("dqn", "train/loss")])
def test_a_stopped_training_ends_with_the_same_bits_and_curves(
    tmp_path: Path, agent: Literal["ppo", "dqn"], loss: str
) -> None:
    config = replace(FOUR, agent=agent)
    whole = rl_lr.train(tmp_path / "whole", [quadratic], config)
    stopped_after(tmp_path / "parts", 2, config)
    resumed = rl_lr.train(tmp_path / "parts", [quadratic], resume=True)
    assert_same_weights(whole, resumed)
    assert resumed.provenance["iterations"] == 4
    for tag in ("rollout/return", loss, "validation/regret_to_same_rate"):
        assert curve(tmp_path / "parts", tag) == curve(tmp_path / "whole", tag)


@pytest.fixture(scope="module")
def two_members(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return rl_lr.train(tmp_path_factory.mktemp("whole"), [quadratic], PAIR)


@pytest.mark.parametrize("done", [1, 2, 3])
def test_members_go_on_wherever_they_were_stopped(tmp_path: Path, two_members: Policy, done: int) -> None:
    stopped_after(tmp_path / "parts", done, PAIR)
    resumed = rl_lr.train(tmp_path / "parts", [quadratic], resume=True)
    assert_same_weights(two_members, resumed)
    assert [step for step, _ in curve(tmp_path / "parts", "rollout/return")] == [1, 2, 3, 4]


def test_what_a_crash_left_of_an_unfinished_iteration_is_hidden(tmp_path: Path) -> None:
    stopped_after(tmp_path, 3)
    older = (tmp_path / STATE_FILE).read_bytes()
    stopped_after(tmp_path / "two", 2)
    (tmp_path / STATE_FILE).write_bytes((tmp_path / "two" / STATE_FILE).read_bytes())
    rl_lr.train(tmp_path, [quadratic], resume=True)  # iteration 3 is made again
    assert [step for step, _ in curve(tmp_path, "rollout/return")] == [1, 2, 3, 4]
    assert (tmp_path / STATE_FILE).read_bytes() != older


def end(words: list[str]) -> None:
    ended = subprocess.run([*TRAIN, *words], check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = tmp_path_factory.mktemp("whole")
    end(["--out", str(folder), "--task", '["digits-linear"]', *WORDS])
    return Policy.load(folder)


@pytest.mark.parametrize("engine", ["local", "processes"])
def test_a_training_killed_again_and_again_ends_with_the_same_bits(
    tmp_path: Path, whole: Policy, engine: str
) -> None:
    state, delays, where = tmp_path / "killed" / STATE_FILE, [0.0, 0.1, 0.6], ["--engine", engine]
    words = ["--out", str(tmp_path / "killed"), "--task", '["digits-linear"]', *WORDS]
    for delay in delays:
        before = last_change(state)
        with subprocess.Popen([*TRAIN, *words, *where], stdout=subprocess.DEVNULL) as run:
            while last_change(state) == before and run.poll() is None:
                time.sleep(0.005)
            time.sleep(delay)
            run.send_signal(signal.SIGKILL)
        words = ["--resume", str(tmp_path / "killed")]
    end(words)
    killed = Policy.load(tmp_path / "killed")
    assert_same_weights(killed, whole)
    assert "--out" in killed.provenance["command"].split()  # --resume makes nothing again
    steps = [step for step, _ in curve(tmp_path / "killed", "rollout/return")]
    assert steps == list(range(1, 6))


def last_change(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


@pytest.mark.parametrize("engine", ["local", "processes", "ray"])
def test_ctrl_c_finishes_the_iteration_and_says_how_to_go_on(tmp_path: Path, engine: str) -> None:
    words = [*WORDS, "--engine", engine, "--settings.iterations=1000", "--task", '["digits-linear"]']
    with subprocess.Popen(
        [*TRAIN, "--out", str(tmp_path), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        while not (tmp_path / STATE_FILE).exists() and run.poll() is None:
            time.sleep(0.01)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the workers too
        out, error = run.communicate(timeout=120)
    assert run.returncode == 0, error
    assert "finishing this iteration first" in error
    assert f"to go on: rl-lr train --resume {tmp_path}" in out.replace("\n", "")
    assert Policy.load(tmp_path).provenance["iterations"] == load(tmp_path)[0].iterations


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Files cannot grow beyond ``size`` bytes: what a full disk does, without filling one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_last_good_state(tmp_path: Path) -> None:
    stopped_after(tmp_path, 1)
    progress, _ = load(tmp_path)
    good = (tmp_path / STATE_FILE).read_bytes()
    weights = torch.nn.Linear(64, 64).state_dict()
    for size in (0, 1, 1000, 10_000):
        with file_size_limit(size), pytest.raises(OSError, match="File too large"):
            save(tmp_path, progress, weights)
        assert (tmp_path / STATE_FILE).read_bytes() == good
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def test_an_iteration_that_cannot_be_saved_is_told_and_training_goes_on(tmp_path: Path) -> None:
    whole = rl_lr.train(tmp_path / "whole", [quadratic], TINY)
    (tmp_path / "hindered" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hindered" / "checkpoints" / "00002").touch()  # where a folder is to be
    with pytest.warns(UserWarning, match=r"Iteration 2 could not be saved .* training goes on"):
        policy = rl_lr.train(tmp_path / "hindered", [quadratic], TINY)
    assert_same_weights(policy, whole)
    assert load(tmp_path / "hindered")[0].iterations == 3


def test_other_settings_and_tasks_are_refused_by_name(tmp_path: Path) -> None:
    stopped_after(tmp_path, 1)
    with pytest.raises(ValueError, match=r"started with draw\.max_steps=90, not 100"):
        rl_lr.train(tmp_path, [quadratic], replace(FOUR, draw=DrawConfig(60, 100)), resume=True)
    with pytest.raises(ValueError, match=r"tasks \['quadratic'\], not \['digits-linear'\]"):
        rl_lr.train(tmp_path, ["digits-linear"], resume=True)


def test_a_folder_without_a_training_and_a_damaged_state_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no training to go on with"):
        rl_lr.train(tmp_path, resume=True)
    (tmp_path / STATE_FILE).write_bytes(b"not a state")
    with pytest.raises(ValueError, match="damaged or of another version"):
        rl_lr.train(tmp_path, resume=True)


def test_a_complete_training_resumed_is_itself(tmp_path: Path) -> None:
    policy = rl_lr.train(tmp_path, [quadratic], replace(TINY, iterations=1))
    assert_same_weights(rl_lr.train(tmp_path, [quadratic], resume=True), policy)
