"""The notebooks run from top to bottom, and say what their text says."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"

HANGS_AFTER = 1800
"""Seconds after which a cell is taken to hang. It says nothing of speed: the longest cell takes minutes on two
free cores, and shares them with other tests here, so five minutes were too few on a slow machine."""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def run(name: str, folder: Path) -> tuple[list[str], int]:
    """Run a notebook in a folder of its own: the lines that it prints, and the number of its pictures."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=HANGS_AFTER, resources={"metadata": {"path": folder}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    lines = "".join(output.get("text", "") for output in outputs).splitlines()
    return lines, sum("image/png" in output.get("data", {}) for output in outputs)


def shares_right(lines: list[str]) -> list[float]:
    """Per cent of the held-out digits, fit by fit."""
    return [float(line.split(":")[1].split("%")[0]) for line in lines if "digits right" in line]


def test_notebook_01_runs_and_the_callback_wins_from_the_low_rate(tmp_path: Path) -> None:
    lines, pictures = run("01_use_the_callback.ipynb", tmp_path)
    usual, usual_ours, low, low_ours = shares_right(lines)
    assert low_ours > low + 20
    assert min(usual_ours, low_ours) > 95
    assert pictures == 1
    assert usual > 90


def test_notebook_03_shows_a_fit_that_its_base_schedule_does_not_reach(tmp_path: Path) -> None:
    lines, pictures = run("03_look_at_convergence.ipynb", tmp_path)
    alone, ours = shares_right(lines)
    assert ours > max(95, alone + 20)
    assert pictures == 1
    assert "decisions: 56, guard events: 0" in lines
    logs = tmp_path / "lightning_logs" / "notebook-03"
    assert {folder.name for folder in logs.iterdir()} == {"base schedule", "policy"}


def test_notebook_02_trains_a_policy_at_least_as_good_as_the_one_that_ships(tmp_path: Path) -> None:
    lines, _ = run("02_train_a_policy.ipynb", tmp_path)
    told = {
        line.split(":")[0].strip(): float(line.split(":")[1].split()[0])
        for line in lines
        if " nats above" in line
    }
    assert told["the new one"] <= told["the policy that ships"]  # on fits kept apart
    assert told["rl-lr"] <= told["rl-lr, default"] + 0.01  # on fits that neither has seen
    error = next(line for line in lines if line.startswith("mean squared error"))
    assert float(error.split(":")[1]) < 0.55
    assert (tmp_path / "runs" / "regression" / "model.safetensors").is_file()
