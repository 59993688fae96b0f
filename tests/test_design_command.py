"""``rl-lr design`` and ``rl-lr siblings design`` as a person runs them."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from event_files import logs
from rich.console import Console

from rl_lr.cli import main
from rl_lr.design.architecture import Architecture
from rl_lr.design.cells import Cell
from rl_lr.design.command import CHILDREN_FILE, RESULT_FILE, SEARCH_FILE, SearchConfig, run_design
from rl_lr.design.drawing import draw_architecture, draw_cell
from rl_lr.design.measure import run_measure
from rl_lr.design.page import musts

COMMAND = [sys.executable, "-c", "from rl_lr.cli import main; main()"]
SMALL = SearchConfig(children=5, steps=2, runs=1)


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_a_search_killed_at_any_moment_ends_as_one_that_was_not(tmp_path: Path) -> None:
    settings = SearchConfig(agent="reinforce", children=14, steps=2, runs=1, seed=3)
    run_design(tmp_path / "whole", None, settings, quiet())
    killed = tmp_path / "killed"
    options = [
        f"--{name}={getattr(settings, name)}" for name in ("agent", "children", "steps", "runs", "seed")
    ]
    process = subprocess.Popen(
        [*COMMAND, "design", "--out", str(killed), *options], stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while count(killed / CHILDREN_FILE) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert 3 <= count(killed / CHILDREN_FILE) - 1 < 14
    assert not (killed / RESULT_FILE).exists()
    subprocess.run([*COMMAND, "design", "--resume", str(killed)], check=True, stdout=subprocess.DEVNULL)
    for name in (RESULT_FILE, CHILDREN_FILE, SEARCH_FILE):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    rewards = logs(killed / "tensorboard").Scalars("search/reward")
    assert [event.step for event in rewards] == list(range(1, 15))


def count(path: Path) -> int:
    """Whole lines of a file."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_search_shows_rewards_and_a_drawing_in_tensorboard(tmp_path: Path) -> None:
    found = run_design(tmp_path / "out", None, SMALL, quiet())
    events = logs(tmp_path / "out" / "tensorboard")
    rewards, best = (events.Scalars(f"search/{name}") for name in ("reward", "best_so_far"))
    assert [event.value for event in rewards] == pytest.approx([child.reward for child in found.children])
    assert [event.value for event in best] == pytest.approx(found.best_so_far())
    assert events.Images("search/best_design")
    result = json.loads((tmp_path / "out" / RESULT_FILE).read_text())
    assert result["best"]["design"] == found.best()[0].design
    assert (tmp_path / "out" / "best.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--out", "new", "--children", "0"], "--children is 0, and a search needs at least one"),
        (["--resume", "nowhere"], "nowhere holds no search to go on with"),
        ([], "Give either --out, the folder of a new search, or --resume"),
        (["--out", "a", "--resume", "b"], "Give either --out"),
        (["--out", "there"], "there holds a search already: go on with --resume there"),
        (["--resume", "broken"], "search.json describes no search"),
        (["--resume", "other"], "keeps results of other settings"),
    ],
)
def test_bad_input_ends_in_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    reason: str,
) -> None:
    for name, content in (("there", "{}"), ("broken", '{"space": 3, "depth": 4}'), ("other", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / SEARCH_FILE).write_text(content)
    (tmp_path / "other" / CHILDREN_FILE).write_text('{"settings": {"steps": 7}}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rl-lr", "design", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert len(error.strip().splitlines()) == 1
    assert reason in error


def test_every_design_can_be_drawn() -> None:
    network = draw_architecture(Architecture.parse("conv(4,3) pool(2) dense(16)"), (1, 12), 10)
    texts = [text.get_text() for text in network.axes[0].texts]
    assert texts == ["image\n12×12", "conv 3×3\n4 maps", "max pool\n2×2", "dense\n16", "linear\n10 classes"]
    cell = draw_cell(Cell.parse("add-tanh multiply-relu multiply-sigmoid | add-relu at 0, keep 1"))
    drawn = [text.get_text() for text in cell.axes[0].texts]
    assert {"+  tanh", "×  relu", "×  sigmoid", "memory $c$ joins by\n+  relu", "new output $h$"} <= set(
        drawn
    )


def test_the_measurement_runs_and_runs_again_for_nothing(tmp_path: Path) -> None:
    page = run_measure(tmp_path, None, quick=True, console=quiet())
    text, made = page.read_text(), (tmp_path / "layers.jsonl").read_bytes()
    results = json.loads((tmp_path / "design.json").read_text())
    rows = musts(results)
    assert len(rows) == 4 + 2 + 4
    assert all(" | ".join(row) in text for row in rows)
    for name in ("search", "network", "cell"):
        assert f"{name}.png" in text
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
    before = text
    assert run_measure(tmp_path, None, quick=True, console=quiet()).read_text() == before
    assert (tmp_path / "layers.jsonl").read_bytes() == made


def test_a_must_is_reached_only_with_intervals_apart_and_no_more_parameters() -> None:
    five = {"random": [0.3, 0.31, 0.32], "q-learning": [0.5, 0.51, 0.52], "reinforce": [0.31, 0.32, 0.9]}
    finals = {
        "ours": {"losses": [0.1, 0.11, 0.12], "parameters": 100},
        "theirs": {"losses": [0.2, 0.21, 0.22], "parameters": 99},
        "larger": {"losses": [0.11, 0.12, 0.14], "parameters": 101},
    }
    result = {
        "agents": {name: {"best_five_test": values} for name, values in five.items()},
        "best": "ours",
        "rivals": ["theirs", "larger"],
        "finals": {"test": finals, "test-long": finals},
    }
    reached = [row[2] for row in musts({"layers": result, "cells": result})]
    assert reached[:4] == ["yes", "**no**"] * 2
    assert reached[4:] == ["**no**", "yes; intervals overlap"] * 4
